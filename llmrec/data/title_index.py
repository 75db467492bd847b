"""Names of a catalogue's items, and which of them hold a word, in a few bytes each: among a million a look-up takes milliseconds.

Names are numbered in the order they were added. Words are kept in alphabetical order, so that all with one beginning lie together.
Letters: N names, P pairs of a name and an item, W words, Q pairs of a word and a name.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

_LAST = "\U0010ffff"  # sorts after every other character


class TitleIndex:
    """Which items have a name, and which names have a word. names: str (N,)."""

    def __init__(self, names_of_items: Iterable[Iterable[str]]) -> None:
        """names_of_items: of each item the names it goes by."""
        numbers: dict[str, int] = {}
        name_of, item_of = array("i"), array("i")  # of each pair (P,)
        for item, names in enumerate(names_of_items):
            for name in names:
                name_of.append(numbers.setdefault(name, len(numbers)))
                item_of.append(item)
        self.names = list(numbers)
        del numbers
        self._starts, self._items = _grouped(np.array(name_of), np.array(item_of), len(self.names))
        ordered = sorted(range(len(self.names)), key=self.names.__getitem__)
        self._ordered = np.array(ordered, np.int32)  # (N,), in alphabetical order
        self._places = np.empty(len(ordered), np.int32)  # (N,), the place of each name in it
        self._places[self._ordered] = np.arange(len(ordered), dtype=np.int32)
        self._lengths = np.array([len(name) for name in self.names], np.int32)  # (N,)
        self._index_words()

    def _index_words(self) -> None:
        numbers: dict[str, int] = {}
        word_of, name_of = array("i"), array("i")  # of each pair (Q,)
        for number, name in enumerate(self.names):
            for word in set(name.split()):
                word_of.append(numbers.setdefault(word, len(numbers)))
                name_of.append(number)
        self.words = sorted(numbers)
        places = np.empty(len(numbers), np.int32)
        places[[numbers[word] for word in self.words]] = np.arange(len(numbers))
        self._word_starts, self._word_names = _grouped(
            places[np.array(word_of, np.int32)], np.array(name_of), len(numbers)
        )

    def number(self, name: str) -> int | None:
        """The number of a name, None where no item has it."""
        place = bisect_left(self._ordered, name, key=self.names.__getitem__)
        if place == len(self._ordered) or self.names[self._ordered[place]] != name:
            return None
        return int(self._ordered[place])

    def items(self, numbers: Sequence[int]) -> list[int]:
        """The items of names, name by name, each once."""
        first, stop = self._starts[numbers], self._starts[np.asarray(numbers, np.int64) + 1]
        if (stop - first == 1).all():
            return list(dict.fromkeys(self._items[first].tolist()))
        pairs = zip(first.tolist(), stop.tolist(), strict=True)
        return list(dict.fromkeys(item for start, end in pairs for item in self._items[start:end].tolist()))

    def with_word(self, word: str) -> np.ndarray:
        """The names that have a word: int32, ascending."""
        place = bisect_left(self.words, word)
        if place == len(self.words) or self.words[place] != word:
            return np.zeros(0, np.int32)
        return self._word_names[self._word_starts[place] : self._word_starts[place + 1]]

    def with_word_begun(self, beginning: str) -> np.ndarray:
        """The names with a word that begins so: int32, ascending."""
        first, stop = _range(self.words, beginning)
        return np.unique(self._word_names[self._word_starts[first] : self._word_starts[stop]])

    def words_begun(self, beginning: str) -> list[str]:
        """The words that begin so."""
        first, stop = _range(self.words, beginning)
        return self.words[first:stop]

    def begun(self, beginning: str) -> np.ndarray:
        """The names that begin so: int32, in alphabetical order."""
        by = self.names.__getitem__
        first = bisect_left(self._ordered, beginning, key=by)
        return self._ordered[first : bisect_left(self._ordered, beginning + _LAST, key=by)]

    def shortest(self, numbers: np.ndarray, limit: int) -> list[int]:
        """The shortest of these names, those of one length in alphabetical order, at most `limit`."""
        keys = self._lengths[numbers].astype(np.int64) * len(self.names) + self._places[numbers]
        if len(keys) > limit:
            best = np.argpartition(keys, limit)[:limit]
            numbers, keys = numbers[best], keys[best]
        return numbers[np.argsort(keys)].tolist()


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The numbers that both hold: int32, ascending, each once in each."""
    small, large = (first, second) if len(first) <= len(second) else (second, first)
    places = np.searchsorted(large, small)
    is_in = places < len(large)
    is_in[is_in] = large[places[is_in]] == small[is_in]
    return small[is_in]


def _range(words: Sequence[str], beginning: str) -> tuple[int, int]:
    return bisect_left(words, beginning), bisect_left(words, beginning + _LAST)


def _grouped(groups: np.ndarray, members: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Members by group, in their order: int64 (num_groups + 1,), where each group starts, and int32, the members."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups.astype(np.int64), minlength=num_groups))])
    return starts, members[np.argsort(groups, kind="stable")].astype(np.int32)
