"""Items as vectors for small models: one embedding per item, the mean of its word pieces' embeddings, frozen matrices through linear
projections, or any of them side by side.

Letters: N items, F fields (ids, word pieces and each matrix are one field), E width of a field, D_f width of matrix f, P word pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

ItemMatrices = Mapping[str, tuple[np.ndarray, np.ndarray]]  # name -> float32 (N, D_f), present bool (N,)
IDS, PIECES = "id", "word_pieces"  # the names of the fields of embeddings


@dataclass(frozen=True, eq=False)
class ItemPieces:
    """What items are called, in pieces of words. rows: int32 (N, P), each in [0, num_pieces], 0 behind the last piece of an item."""

    rows: np.ndarray
    num_pieces: int


class FrozenField(nn.Module):
    """A frozen matrix through one trained projection; an item without a row in it reads a learned vector.

    The matrix is centred and divided by one number, so that directions keep their relative size and present rows have length
    `length` (in the root mean square); the projection starts so that the field spreads by `std`, as embeddings do. A field of any
    width thus starts as small as the ids; the longer its rows, the faster Adam moves it. The matrix is saved with the weights:
    whoever serves the model needs nothing that made it.
    """

    def __init__(self, num_items: int, width: int, dim: int, *, std: float, length: float) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.zeros(num_items, width))  # float32 (N, D_f), absent rows zero
        self.register_buffer("present", torch.zeros(num_items, dtype=torch.bool))  # (N,)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.projection = nn.Linear(width, dim)
        nn.init.normal_(self.projection.weight, std=std / length)
        nn.init.zeros_(self.projection.bias)
        self.absent = nn.Parameter(torch.zeros(dim))
        self.length = length

    def fit(self, matrix: np.ndarray, present: np.ndarray) -> None:
        """Take a matrix and its scaling: float32 (N, D_f), bool (N,)."""
        rows = torch.as_tensor(matrix, dtype=torch.float32)
        self.present.copy_(torch.as_tensor(present))
        if self.present.any():
            self.centre.copy_(rows[self.present].mean(dim=0))
            lengths = (rows[self.present] - self.centre).norm(dim=1)
            self.scale.copy_((lengths.square().mean().sqrt() / self.length).clamp(min=1e-6))
        self.replace(matrix, present)

    def replace(self, matrix: np.ndarray, present: np.ndarray) -> None:
        """Other rows of the same kind, such as those of a changed image, under the scaling that was trained with."""
        rows = (torch.as_tensor(matrix, dtype=torch.float32) - self.centre) / self.scale
        self.present.copy_(torch.as_tensor(present))
        self.matrix.copy_(torch.where(self.present[:, None], rows, 0.0))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (M,) -> float32 (M, E)."""
        return torch.where(self.present[items][:, None], self.projection(self.matrix[items]), self.absent)

    def table(self) -> torch.Tensor:
        """All items: float32 (N, E)."""
        return torch.where(self.present[:, None], self.projection(self.matrix), self.absent)


class IdField(nn.Module):
    """One embedding per item. In training a share of them is replaced by one learned embedding, which cold items read ever after."""

    def __init__(self, num_items: int, dim: int, *, dropout: float, std: float) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(num_items, dim) * std)
        self.unknown = nn.Parameter(torch.zeros(dim))
        self.register_buffer("known", torch.ones(num_items, dtype=torch.bool))  # (N,): items of the training examples
        self.dropout = dropout

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (M,) -> float32 (M, E)."""
        shown = self.known[items]
        if self.training and self.dropout:
            shown = shown & (torch.rand(len(items)) >= self.dropout).to(shown.device)
        return torch.where(shown[:, None], self.rows[items], self.unknown)

    def table(self) -> torch.Tensor:
        """All items, none replaced by chance: float32 (N, E)."""
        cold = (~self.known).nonzero().squeeze(1)
        return self.rows.index_copy(0, cold, self.unknown.expand(len(cold), -1))  # a tenth of the time of `where`


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
        feature_length: float = 3.0,
    ) -> None:
        """widths: D_f of each matrix by name; pieces: how many different word pieces there are, and P. `fit` brings what they are."""
        super().__init__()
        assert use_ids or widths or pieces, "an item needs an id, word pieces or features"
        self.num_items, self.dim = num_items, dim
        self.names = [*([IDS] if use_ids else []), *([PIECES] if pieces else []), *widths]
        fields: list[nn.Module] = [IdField(num_items, dim, dropout=id_dropout, std=std)] if use_ids else []
        if pieces:
            fields.append(PiecesField(num_items, *pieces, dim, std=std))
        self.fields = nn.ModuleList(
            [
                *fields,
                *(FrozenField(num_items, width, dim, std=std, length=feature_length) for width in widths.values()),
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
