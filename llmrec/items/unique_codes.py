"""Makes rows of codes unique without an extra digit: items that share a row are re-assigned, nearest free code first.

Letters: N items, L levels, K codes of a level, D width of the features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def make_unique(features: np.ndarray, nearest: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Unique rows of codes: int32 (N, L).

    Of the items that share a row, the one nearest to its reconstruction keeps it. The others are placed one by one, nearest
    first: level by level each takes the nearest code under which a row is still free, so it stays in its prefix and takes
    the nearest free code of the last level, and goes to the next-nearest prefix only when its own is full.

    features: float32 (N, D); nearest: int32 (N, L), the rows before; codebooks: L arrays float32 (K, D) with N <= the
    product of their sizes. The result depends on nothing but the arguments; equal distances go to the lower item and code.
    """
    sizes = [len(codebook) for codebook in codebooks]
    assert len(features) <= float(np.prod(np.array(sizes, dtype=float))), (len(features), sizes)
    reconstruction = sum(codebook[nearest[:, level]] for level, codebook in enumerate(codebooks))  # (N, D)
    errors = ((features - reconstruction) ** 2).sum(axis=1)
    order = np.lexsort((np.arange(len(features)), errors))
    _, first = np.unique(nearest[order], axis=0, return_index=True)
    keeps = np.zeros(len(features), dtype=bool)
    keeps[order[first]] = True

    free = _FreeRows(sizes)
    for row in nearest[keeps].tolist():
        free.take(tuple(row))
    codes = nearest.astype(np.int32)
    for item in order[~keeps[order]].tolist():
        row: tuple[int, ...] = ()
        residual = features[item].astype(np.float64)
        for codebook in codebooks:
            distances = ((residual - codebook) ** 2).sum(axis=1)  # (K,)
            distances[free.full(row)] = np.inf
            row += (int(np.argmin(distances)),)
            residual = residual - codebook[row[-1]]
        free.take(row)
        codes[item] = row
    return codes


class _FreeRows:
    """Which codes under a prefix still lead to a free row."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._full: dict[tuple[int, ...], np.ndarray] = {}
        self._num_full: dict[tuple[int, ...], int] = defaultdict(int)

    def full(self, prefix: tuple[int, ...]) -> np.ndarray:
        """bool (K,): codes behind `prefix` with no free row below them."""
        if prefix not in self._full:
            self._full[prefix] = np.zeros(self._sizes[len(prefix)], dtype=bool)
        return self._full[prefix]

    def take(self, row: tuple[int, ...]) -> None:
        """Marks a row as used, and every prefix that thereby has no free row left."""
        for level in range(len(row) - 1, -1, -1):
            prefix, code = row[:level], row[level]
            codes = self.full(prefix)
            assert not codes[code], f"row {row} is taken twice"
            codes[code] = True
            self._num_full[prefix] += 1
            if self._num_full[prefix] < self._sizes[level]:
                return
