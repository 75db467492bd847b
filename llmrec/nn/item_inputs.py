"""Items as vectors for small models: one embedding per item, the mean of its word pieces' embeddings, frozen matrices through linear
projections, or any of them side by side (CTR models) or summed (networks of item sequences).

Where an item has nothing, fields that stand side by side read a learned vector. In a sum they read zero: the rest of the sum is then
all that the item is, and an item that training never met is what its features say, with nothing learned from others in between.

Letters: N items, F fields (ids, word pieces and each matrix are one field), E width of a field, D_f width of matrix f, P word pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from llmrec.nn.precision import Precision, rounded_map

ItemMatrices = Mapping[str, tuple[np.ndarray, np.ndarray]]  # name -> float32 (N, D_f), present bool (N,)
IDS, PIECES = "id", "word_pieces"  # the names of the fields of embeddings
Absent = Literal["learned", "zero"]  # what an item reads of a field that has nothing of it


@dataclass(frozen=True, eq=False)
class ItemPieces:
    """What items are called, in pieces of words. rows: int32 (N, P), each in [0, num_pieces], 0 behind the last piece of an item."""

    rows: np.ndarray
    num_pieces: int


class FrozenField(nn.Module):
    """A frozen matrix through one trained projection; an item without a row in it reads a learned vector, or zero.

    The matrix is centred and divided by one number, so that directions keep their relative size and the rows that it was fitted on
    have length `length` (in the root mean square); the projection starts so that the field spreads by `std`, as embeddings do. A field
    of any width thus starts as small as the ids; the longer its rows, the faster Adam moves it. The matrix is saved with the weights:
    whoever serves the model needs nothing that made it.
    """

    def __init__(self, num_items: int, width: int, dim: int, *, std: float, length: float, absent: Absent) -> None:
        """absent: zero leaves the projection without a bias, so that a row of zeros, which is the centre, is zero as well."""
        super().__init__()
        is_learned = absent == "learned"
        self.register_buffer("matrix", torch.zeros(num_items, width))  # float32 (N, D_f), absent rows zero
        self.register_buffer("present", torch.zeros(num_items, dtype=torch.bool))  # (N,)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.projection = nn.Linear(width, dim, bias=is_learned)
        nn.init.normal_(self.projection.weight, std=std / length)
        if is_learned:
            nn.init.zeros_(self.projection.bias)
        self.absent = nn.Parameter(torch.zeros(dim)) if is_learned else None
        self.length = length
        self.training_precision: Precision = "float32"  # of the products of `table`

    def fit(self, matrix: np.ndarray, present: np.ndarray, seen: np.ndarray | None = None) -> None:
        """Take a matrix and its scaling: float32 (N, D_f), bool (N,). seen: bool (N,), those it is fitted on; None: all."""
        rows, there = torch.as_tensor(matrix, dtype=torch.float32), torch.as_tensor(present)
        fitted = there if seen is None else there & torch.as_tensor(seen)
        if fitted.any():
            self.centre.copy_(rows[fitted].mean(dim=0))
            lengths = (rows[fitted] - self.centre).norm(dim=1)
            self.scale.copy_((lengths.square().mean().sqrt() / self.length).clamp(min=1e-6))
        self.replace(matrix, present)

    def replace(self, matrix: np.ndarray, present: np.ndarray) -> None:
        """Other rows of the same kind, such as those of a changed image, under the scaling that was trained with."""
        self.present.copy_(torch.as_tensor(present))
        self.matrix.copy_(self._scaled(matrix, self.present))

    def extend(self, matrix: np.ndarray, present: np.ndarray) -> None:
        """Rows of new items behind the others, under the scaling that was trained with: float32 (M, D_f), bool (M,)."""
        there = torch.as_tensor(present)
        self.matrix = torch.cat([self.matrix, self._scaled(matrix, there)])
        self.present = torch.cat([self.present, there])

    def _scaled(self, matrix: np.ndarray, present: torch.Tensor) -> torch.Tensor:
        rows = (torch.as_tensor(matrix, dtype=torch.float32) - self.centre) / self.scale
        return torch.where(present[:, None], rows, 0.0)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (M,) -> float32 (M, E)."""
        rows = self.projection(self.matrix[items])
        return rows if self.absent is None else torch.where(self.present[items][:, None], rows, self.absent)

    def table(self) -> torch.Tensor:
        """All items: float32 (N, E)."""
        if self.training and self.training_precision == "bfloat16":
            rows = rounded_map(self.matrix, self.projection.weight)
            rows = rows if self.projection.bias is None else rows + self.projection.bias
        else:
            rows = self.projection(self.matrix)
        return rows if self.absent is None else torch.where(self.present[:, None], rows, self.absent)


class IdField(nn.Module):
    """One embedding per item. In training a share of them is dropped, whole; what is read then, cold items read ever after: one learned
    embedding, or zero.
    """

    def __init__(self, num_items: int, dim: int, *, dropout: float, std: float, absent: Absent) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(num_items, dim) * std)
        self.unknown = nn.Parameter(torch.zeros(dim)) if absent == "learned" else None
        self.register_buffer("known", torch.ones(num_items, dtype=torch.bool))  # (N,): items of the training examples
        self.dropout = dropout

    def extend(self, num_items: int) -> None:
        """So many new items behind the others, of which nothing is known."""
        self.rows = nn.Parameter(torch.cat([self.rows.detach(), self.rows.new_zeros(num_items, self.rows.shape[1])]))
        self.known = torch.cat([self.known, self.known.new_zeros(num_items)])

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (M,) -> float32 (M, E)."""
        return self._shown(self.rows[items], self.known[items])

    def table(self) -> torch.Tensor:
        """All items, of learned ones none replaced by chance: float32 (N, E)."""
        if self.unknown is None:
            return self._shown(self.rows, self.known)
        cold = (~self.known).nonzero().squeeze(1)
        return self.rows.index_copy(0, cold, self.unknown.expand(len(cold), -1))  # a tenth of the time of `where`

    def _shown(self, rows: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """rows: float32 (M, E), shown: bool (M,)."""
        if self.training and self.dropout:
            shown = shown & (torch.rand(len(rows)) >= self.dropout).to(shown.device)
        if self.unknown is not None:
            return torch.where(shown[:, None], rows, self.unknown)
        return rows if shown.all() else rows * shown[:, None]


class PiecesField(nn.Module):
    """The mean of trained embeddings of an item's word pieces; an item without one reads a learned vector.

    A piece counts as often as it stands there. The pieces are saved with the weights.
    """

    def __init__(self, num_items: int, num_pieces: int, most: int, dim: int, *, std: float) -> None:
        """most: P, the pieces of the longest item."""
        super().__init__()
        self.register_buffer("pieces", torch.zeros(num_items, most, dtype=torch.int32))  # (N, P)
        self.rows = nn.Parameter(torch.randn(num_pieces + 1, dim) * std)  # that of 0 is never read
        self.absent = nn.Parameter(torch.zeros(dim))

    def fit(self, pieces: ItemPieces) -> None:
        """Take the pieces; the embeddings grow so that means of them spread as embeddings of ids do."""
        self.pieces.copy_(torch.from_numpy(pieces.rows))
        lengths = torch.count_nonzero(self.pieces, dim=1)
        if lengths.any():
            with torch.no_grad():
                self.rows.mul_(lengths[lengths > 0].float().mean().sqrt())

    def forget_unless(self, is_known: torch.Tensor) -> None:
        """Pieces of no known item are read no more, for nobody learns them: bool (N,)."""
        learned = torch.zeros(len(self.rows), dtype=torch.bool)
        learned[self.pieces[is_known].flatten().long()] = True
        self.pieces.masked_fill_(~learned[self.pieces.long()], 0)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (M,) -> float32 (M, E)."""
        pieces = self.pieces[items]  # (M, P)
        means = nn.functional.embedding_bag(pieces, self.rows, mode="mean", padding_idx=0)
        return torch.where((pieces != 0).any(dim=1, keepdim=True), means, self.absent)

    def table(self) -> torch.Tensor:
        """All items: float32 (N, E)."""
        return self(torch.arange(len(self.pieces)))


class ItemInputs(nn.Module):
    """The fields of an item: items int64 (...) -> float32 (..., F, E): ids, word pieces, then the matrices in the order given."""

    def __init__(
        self,
        num_items: int,
        dim: int,
        widths: Mapping[str, int],
        *,
        use_ids: bool,
        pieces: tuple[int, int] | None = None,
        id_dropout: float = 0.0,
        std: float = 0.05,
        feature_length: float | None = 3.0,
        absent: Absent = "learned",
    ) -> None:
        """widths: D_f of each matrix by name; pieces: how many different word pieces there are, and P. `fit` brings what they are.
        feature_length: of the rows of a matrix; None: the root of their width, so that their numbers have a mean square of one."""
        super().__init__()
        assert use_ids or widths or pieces, "an item needs an id, word pieces or features"
        self.num_items, self.dim = num_items, dim
        self.names = [*([IDS] if use_ids else []), *([PIECES] if pieces else []), *widths]
        fields: list[nn.Module] = (
            [IdField(num_items, dim, dropout=id_dropout, std=std, absent=absent)] if use_ids else []
        )
        if pieces:
            fields.append(PiecesField(num_items, *pieces, dim, std=std))
        self.fields = nn.ModuleList(
            [
                *fields,
                *(
                    FrozenField(num_items, width, dim, std=std, length=feature_length or width**0.5, absent=absent)
                    for width in widths.values()
                ),
            ]
        )

    @property
    def num_fields(self) -> int:
        """F."""
        return len(self.fields)

    @property
    def features(self) -> dict[str, int]:
        """D_f of each matrix by name."""
        return {
            name: field.matrix.shape[1]
            for name, field in zip(self.names, self.fields, strict=True)
            if name not in (IDS, PIECES)
        }

    @property
    def use_ids(self) -> bool:
        """Whether items have embeddings."""
        return self.names[0] == IDS

    @property
    def pieces(self) -> PiecesField | None:
        """The field of word pieces, where there is one."""
        return self.fields[self.names.index(PIECES)] if PIECES in self.names else None

    def frozen(self, name: str) -> FrozenField:
        """The field of one matrix."""
        return self.fields[self.names.index(name)]

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (...), each in [0, N) -> float32 (..., F, E). Each different item is computed once."""
        different, places = torch.unique(items, return_inverse=True)
        table = torch.stack([field(different) for field in self.fields], dim=1)  # (M, F, E)
        return nn.functional.embedding(places, table.flatten(1)).unflatten(-1, (self.num_fields, self.dim))
