"""Makes rows of codes unique without an extra digit: items that share a row are re-assigned, nearest free code first.

Letters: N items, M rows that are taken already, L levels, K codes of a level, D width of the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_ITEMS_A_PASS = 4096  # items whose distances to the last level's codes are computed together


def make_unique(
    features: np.ndarray, nearest: np.ndarray, codebooks: Sequence[np.ndarray], taken: np.ndarray | None = None
) -> np.ndarray:
    """Unique rows of codes: int32 (N, L), none of them among `taken`.

    Of the items that share a row, the one nearest to its reconstruction keeps it. The others get new rows one by one, nearest
    first: level by level each takes the nearest code under which a row is still free, so it stays in its prefix and takes
    the nearest free code of the last level, and goes to the next-nearest prefix only when its own is full.

    features: float32 (N, D); nearest: int32 (N, L), the rows before; codebooks: L arrays float32 (K, D); taken: int32 (M, L),
    unique rows of other items, with N + M <= the product of the codebooks' sizes. The result depends on nothing but the
    arguments; equal distances go to the lower item and code.
    """
    sizes = [len(codebook) for codebook in codebooks]
    taken = np.empty((0, len(sizes)), np.int32) if taken is None else taken
    assert len(features) + len(taken) <= float(np.prod(np.array(sizes, dtype=float))), (len(features), sizes)
    reconstruction = sum(codebook[nearest[:, level]] for level, codebook in enumerate(codebooks))  # (N, D)
    errors = ((features - reconstruction) ** 2).sum(axis=1)
    order = np.lexsort((np.arange(len(features)), errors))
    _, first = np.unique(row_keys(nearest[order], sizes), return_index=True)
    keeps = np.zeros(len(features), dtype=bool)
    keeps[order[first]] = True
    keeps &= ~np.isin(row_keys(nearest, sizes), row_keys(taken, sizes))

    codes = nearest.astype(np.int32)
    moved = order[~keeps[order]]
    free = _FreeRows(sizes, np.concatenate([taken, nearest[keeps]]))
    books = [codebook.astype(np.float64) for codebook in codebooks]
    lengths = [(book**2).sum(axis=1) for book in books]  # L x (K,)
    for item, distances in zip(moved.tolist(), _last_distances(features, nearest, moved, books, lengths), strict=True):
        row = tuple(codes[item, :-1].tolist())
        full = free.full(row)
        if full.all():
            row = _nearest_free_row(features[item], free, books, lengths)
        else:
            row += (int(np.where(full, np.inf, distances).argmin()),)
        free.take(row)
        codes[item] = row
    return codes


def row_keys(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """One sortable number per row of codes, int (..., L) -> (...): int64, or Python's integers where the sizes pass 2^62."""
    wide = float(np.prod(np.asarray(sizes, dtype=np.float64))) > 2.0**62
    num_rows = int(np.prod(codes.shape[:-1]))
    rows = codes.reshape(num_rows, len(sizes))
    keys = np.zeros(num_rows, dtype=object if wide else np.int64)
    for level, size in enumerate(sizes):
        keys = keys * int(size) + rows[:, level].astype(keys.dtype)
    return keys.reshape(codes.shape[:-1])


def _last_distances(
    features: np.ndarray,
    nearest: np.ndarray,
    items: np.ndarray,
    books: Sequence[np.ndarray],
    lengths: Sequence[np.ndarray],
) -> Iterator[np.ndarray]:
    """For each of `items` in turn, (K,): squared distances, less a constant, of what its prefix leaves to the last level's codes."""
    for start in range(0, len(items), _ITEMS_A_PASS):
        rows = items[start : start + _ITEMS_A_PASS]
        residual = features[rows].astype(np.float64)  # (rows, D)
        for level, book in enumerate(books[:-1]):
            residual -= book[nearest[rows, level]]
        yield from lengths[-1] - 2 * residual @ books[-1].T


def _nearest_free_row(
    features: np.ndarray, free: _FreeRows, books: Sequence[np.ndarray], lengths: Sequence[np.ndarray]
) -> tuple[int, ...]:
    """Level by level the nearest code under which a row is free. features: float32 (D,)."""
    row: tuple[int, ...] = ()
    residual = features.astype(np.float64)
    for book, length in zip(books, lengths, strict=True):
        row += (int(np.where(free.full(row), np.inf, length - 2 * book @ residual).argmin()),)
        residual = residual - book[row[-1]]
    return row


class _FreeRows:
    """Which codes under a prefix still lead to a free row."""

    def __init__(self, sizes: Sequence[int], taken: np.ndarray) -> None:
        """taken: int (M, L), unique rows. They are kept sorted; a prefix gets its own mask once it is asked about."""
        self._sizes = sizes
        self._taken: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # per level: sorted keys of prefixes, the full code of each
        self._full: dict[tuple[int, ...], np.ndarray] = {}
        for level in range(len(sizes) - 1, -1, -1):
            keys = row_keys(taken[:, :level], sizes[:level])
            order = np.argsort(keys, kind="stable")
            self._taken.insert(0, (keys[order], taken[order, level]))
            _, first, counts = np.unique(keys, return_index=True, return_counts=True)
            taken = taken[
                first[counts == sizes[level]], :level
            ]  # prefixes with no free row below are full one level up

    def full(self, prefix: tuple[int, ...]) -> np.ndarray:
        """bool (K,): codes after `prefix` with no free row below them."""
        if prefix not in self._full:
            level = len(prefix)
            keys, codes = self._taken[level]
            key = row_keys(np.array(prefix, dtype=np.int64), self._sizes[:level])
            mask = np.zeros(self._sizes[level], dtype=bool)
            mask[codes[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")]] = True
            self._full[prefix] = mask
        return self._full[prefix]

    def take(self, row: tuple[int, ...]) -> None:
        """Marks a row as used, and every prefix that thereby has no free row left."""
        for level in range(len(row) - 1, -1, -1):
            codes = self.full(row[:level])
            assert not codes[row[level]], f"row {row} is taken twice"
            codes[row[level]] = True
            if not codes.all():
                return
