"""Who met what in which order: compressed rows, one row per user, oldest event first.

Letters: U users, E events, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec.errors import DataError


def integers(values: object, dtype: type, what: str) -> np.ndarray:
    """`values` as a one-dimensional integer array; DataError where they are not whole numbers that fit `dtype`."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{what} should be one-dimensional but has shape {array.shape}.")
    if array.dtype == dtype or not array.size:
        return np.ascontiguousarray(array, dtype=dtype)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{what} should be whole numbers but came as {array.dtype}.")
    limits = np.iinfo(dtype)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)  # half floats lack the limits
        # False for NaN. As a double the largest int64 is 2^63, which is none any more.
        whole = (array >= limits.min) & (array < float(limits.max) + 1) & (np.floor(array) == array)
    else:
        whole = (array >= limits.min) & (array <= limits.max)
    if not whole.all():
        row = int(np.argmin(whole))
        raise DataError(
            f"{what} should be whole numbers between {limits.min} and {limits.max}, but {(~whole).sum()} are not "
            f"(the first is {array[row]} at position {row})."
        )
    return array.astype(dtype)


def _row_starts(indptr: object, num_events: int) -> np.ndarray:
    starts = integers(indptr, np.int64, "indptr")
    if not len(starts) or starts[0] != 0 or starts[-1] != num_events or (np.diff(starts) < 0).any():
        raise DataError(
            f"indptr should rise from 0 to the number of events ({num_events}), but it is "
            f"{'empty' if not len(starts) else f'{starts[:3].tolist()}...{starts[-1]}'} or falls in between."
        )
    return starts


def gather_rows(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the events of several rows, one row after another.

    starts: int64 (N,), lengths: int64 (N,) -> indptr int64 (N+1,), positions int64 (sum of lengths,).
    """
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    positions = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
    return indptr, positions


@dataclass(frozen=True, eq=False)
class Histories:
    """Item sequences of N rows, oldest first: indptr int64 (N+1,), items int32 (E,), each a dense item >= 0.

    Raises DataError for an indptr that is no row index of `items`, and for negative items.
    """

    indptr: np.ndarray
    items: np.ndarray

    def __post_init__(self) -> None:
        items = integers(self.items, np.int32, "items")
        object.__setattr__(self, "indptr", _row_starts(self.indptr, len(items)))
        object.__setattr__(self, "items", items)
        if len(items) and items.min() < 0:
            raise DataError(f"items should be dense item numbers from 0 on, but {items.min()} is among them.")

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> Histories:
        """Histories from lists of dense items, one list per row."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=indptr[1:])
        return cls(indptr, np.concatenate([np.zeros(0, np.int64), *map(np.asarray, rows)]))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """The items of one row: int32 (length,), a view. Raises IndexError outside -N..N-1."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} rows")
        row %= len(self)
        return self.items[self.indptr[row] : self.indptr[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Events of each row: int64 (N,)."""
        return np.diff(self.indptr)

    def take(self, rows: Sequence[int] | np.ndarray) -> Histories:
        """The given rows, in the given order, repeats allowed. rows: integers (M,) in [0, N)."""
        rows = np.asarray(rows, dtype=np.int64)
        assert not len(rows) or (rows.min() >= 0 and rows.max() < len(self)), (rows.min(), rows.max(), len(self))
        indptr, positions = gather_rows(self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows])
        return Histories(indptr, self.items[positions])


@dataclass(frozen=True, eq=False)
class Interactions:
    """All events, by user, oldest first.

    indptr: int64 (U+1,); items: int32 (E,), each in [0, num_items); times: int64 (E,) unix seconds (or the source's own
    unit), never falling within a user, or None where only the order is known; ratings: float32 (E,), finite, or None.
    Raises DataError when any of this does not hold.
    """

    indptr: np.ndarray
    items: np.ndarray
    num_items: int
    times: np.ndarray | None = None
    ratings: np.ndarray | None = None

    def __post_init__(self) -> None:
        items = integers(self.items, np.int32, "items")
        indptr = _row_starts(self.indptr, len(items))
        outside = (items < 0) | (items >= self.num_items)
        if outside.any():
            raise DataError(
                f"items should lie in 0..{self.num_items - 1} (num_items {self.num_items}), but {outside.sum()} do not "
                f"(the first is {items[np.argmax(outside)]} at position {np.argmax(outside)})."
            )
        object.__setattr__(self, "indptr", indptr)
        object.__setattr__(self, "items", items)
        if self.times is not None:
            object.__setattr__(self, "times", self._checked_times(indptr, len(items)))
        if self.ratings is not None:
            object.__setattr__(self, "ratings", self._checked_ratings(len(items)))

    def _checked_times(self, indptr: np.ndarray, num_events: int) -> np.ndarray:
        times = integers(self.times, np.int64, "times")
        if len(times) != num_events:
            raise DataError(f"times should have one entry per event ({num_events}) but have {len(times)}.")
        falls = times[1:] < times[:-1]
        boundaries = indptr[1:-1]
        falls[boundaries[(boundaries > 0) & (boundaries < num_events)] - 1] = False
        if falls.any():
            position = int(np.argmax(falls)) + 1
            user = int(np.searchsorted(indptr, position, side="right")) - 1
            raise DataError(
                f"times should not fall within a user (oldest event first), but they do at {falls.sum()} events "
                f"(the first: user {user}, position {position}). Sort the events by time first."
            )
        return times

    def _checked_ratings(self, num_events: int) -> np.ndarray:
        ratings = np.ascontiguousarray(self.ratings, dtype=np.float32)
        if ratings.shape != (num_events,):
            raise DataError(f"ratings should have one entry per event ({num_events}) but have shape {ratings.shape}.")
        if not np.isfinite(ratings).all():
            raise DataError(f"ratings should be finite, but {(~np.isfinite(ratings)).sum()} are NaN or infinite.")
        return ratings

    @property
    def num_users(self) -> int:
        """U, users without an event included."""
        return len(self.indptr) - 1

    @property
    def num_events(self) -> int:
        """E."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Events of each user: int64 (U,)."""
        return np.diff(self.indptr)

    @cached_property
    def histories(self) -> Histories:
        """The same events as item sequences, one row per user (a view)."""
        return Histories(self.indptr, self.items)

    def counts(self) -> np.ndarray:
        """Events of each item: int64 (num_items,)."""
        return np.bincount(self.items, minlength=self.num_items)

    def first(self, lengths: np.ndarray) -> Interactions:
        """The oldest `lengths[u]` events of every user, users numbered as before.

        lengths: int64 (U,), each in 0..events of that user.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        assert lengths.shape == (self.num_users,) and (lengths >= 0).all() and (lengths <= self.lengths).all(), lengths
        indptr, positions = gather_rows(self.indptr[:-1], lengths)
        return Interactions(
            indptr,
            self.items[positions],
            self.num_items,
            None if self.times is None else self.times[positions],
            None if self.ratings is None else self.ratings[positions],
        )

    def head(self, drop: int) -> Interactions:
        """Without each user's last `drop` events; a user with fewer keeps an empty row."""
        return self.first(np.maximum(self.lengths - drop, 0))
