"""Sequences of unlike lengths as one row of positions, one sequence after another: nothing is padded, so no padding is computed.

Letters: N positions of all sequences together, B sequences, R rows of an attention and W their width, D width of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Packed:
    """B sequences of items, oldest first. items: int64 (N,); lengths: int64 (B,), each at least 1, of sum N."""

    items: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> Packed:
        """Sequences of items, integers (length,) each, none empty."""
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        assert lengths.all(), "an empty sequence has no state"
        items = np.concatenate([np.zeros(0, np.int64), *sequences])
        return cls(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def last(self) -> torch.Tensor:
        """The position of each sequence's latest item: int64 (B,)."""
        return self.lengths.cumsum(0) - 1

    @property
    def from_end(self) -> torch.Tensor:
        """How many items of the same sequence come after each: int64 (N,), 0 for the latest."""
        return self.last.repeat_interleave(self.lengths) - torch.arange(len(self.items))

    def with_items(self, items: torch.Tensor) -> Packed:
        """The same sequences with other items: int64 (N,)."""
        return Packed(items, self.lengths)

    def in_and_out(self) -> tuple[Packed, torch.Tensor]:
        """All but the latest item of each sequence, and what comes next at each of those positions: N - B positions, int64 (N - B,).

        Sequences are at least 2 long.
        """
        is_last, is_first = (torch.zeros(len(self.items), dtype=torch.bool) for _ in range(2))
        is_last[self.last] = True
        is_first[self.last - self.lengths + 1] = True
        return Packed(self.items[~is_last], self.lengths - 1), self.items[~is_first]


class AttentionRows:
    """Where the positions of packed sequences stand for attention: several sequences share a row where they fit, none sees another.

    Only attention, which needs a rectangle, looks at rows; the places left free in them (few: the longest sequences are placed first,
    each where it leaves least) are masked.
    """

    def __init__(self, packed: Packed, *, is_causal: bool) -> None:
        """is_causal: whether a position sees only itself and what came before it in its sequence, or all of its sequence."""
        lengths = packed.lengths.numpy()
        self.width = int(lengths.max())
        starts, self.num_rows = _best_fit(lengths, self.width)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        inside = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self.places = torch.from_numpy(starts[owner] + inside)  # int64 (N,), each position's of the R * W
        owners = torch.full((self.num_rows * self.width,), -1)
        owners[self.places] = torch.from_numpy(owner)
        owners = owners.view(self.num_rows, self.width)
        visible = (
            owners[:, :, None] == owners[:, None, :]
        )  # a free place sees the free ones, so that no row of it is empty: NaN
        self.visible = (visible.tril() if is_causal else visible)[:, None]  # bool (R, 1, W, W)

    def attention(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, num_heads: int, dropout: float
    ) -> torch.Tensor:
        """Scaled dot-product attention of every position over what it sees: three times float (N, D) -> (N, D)."""
        q, k, v = (
            part.new_zeros(self.num_rows * self.width, part.shape[1])
            .index_copy(0, self.places, part)
            .view(self.num_rows, self.width, num_heads, -1)
            .transpose(1, 2)  # (R, heads, W, D / heads)
            for part in (queries, keys, values)
        )
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible, dropout_p=dropout)
        return read.transpose(1, 2).reshape(self.num_rows * self.width, -1).index_select(0, self.places)


def _best_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """Where each sequence starts in rows of `width` that are laid end to end, int64 (B,), and how many rows there are."""
    starts, num_rows = np.empty(len(lengths), np.int64), 0
    rows_with: list[list[int]] = [[] for _ in range(width + 1)]  # by free places
    for sequence in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sequence])
        free = next((free for free in range(length, width) if rows_with[free]), None)
        if free is None:
            row, free, num_rows = num_rows, width, num_rows + 1
        else:
            row = rows_with[free].pop()
        starts[sequence] = row * width + width - free
        rows_with[free - length].append(row)
    return starts, num_rows
