"""Numbers in a message: digits and written out, decades, and the bounds that they stand for (rule 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.conversation.edits import Bounds
from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_rules.lexicon import Phrases, vocabulary, word_list
from llmrec.conversation.wish_rules.terms import Limits, Number, Unknown
from llmrec.conversation.wish_rules.words import plain_words

_SMALL, _TENS = vocabulary("numbers")["small"], vocabulary("numbers")["tens"]
WRITTEN = {word: n for n, word in enumerate(_SMALL)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_DECADES = {f"{word[:-1]}ies": 10 * n for n, word in enumerate(_TENS, 2)} | {
    "noughties": 0,
    "naughties": 0,
    "teens": 10,
}
_PASSED = 6  # words between "after" and its number
_DECADE = re.compile(r"(?P<century>1[89]|20)?(?P<tens>\d)0s")
_DIGITS = re.compile(r"\d{1,9}(?:[.,]\d{3})*(?:[.,]\d{1,2})?")
_OPERATORS: dict[str, list[str]] = vocabulary("numbers")["operators"]
_ENDINGS: dict[str, list[str]] = vocabulary("numbers")["endings"]
_BETWEEN = {"between": ("and", "to"), "from": ("to", "until", "till", "through", "up to"), "anywhere": ("to",)}
_COUNTED = word_list("counted")
_BEFORE = word_list("before_numbers")


@dataclass(frozen=True)
class Quantity:
    """A number or a decade as it was read: low to high, both of them numbers of the column. role: what its unit says."""

    low: float
    high: float
    is_decade: bool = False
    role: str = ""


class Numbers:
    """Reads numbers over one catalogue's columns. columns: role ("year", "price", "length") -> the column that plays it."""

    def __init__(self, facets: Facets) -> None:
        self.facets = facets
        self.columns: dict[str, str] = {}
        self.units: dict[str, str] = {}
        for role, words in vocabulary("roles").items():
            if column := _column_of(role, words["columns"], facets):
                self.columns[role] = column
            self.units |= dict.fromkeys(words.get("units", ()), role)
        self._operators: Phrases[str] = Phrases()
        self._endings: Phrases[str] = Phrases()
        for phrases, patterns in ((self._operators, _OPERATORS), (self._endings, _ENDINGS)):
            for operator, alternatives in patterns.items():
                for pattern in alternatives:
                    phrases.add(pattern, operator)
        self.words = self._operators.words | self._endings.words | set(WRITTEN) | set(_DECADES) | set(self.units)

    @property
    def latest(self) -> float | None:
        """The greatest year of the catalogue."""
        return None if "year" not in self.columns else float(np.nanmax(self.facets.numbers(self.columns["year"])))

    def bounds_at(
        self, words: Sequence[str], start: int, said: str | None = None
    ) -> tuple[int, Limits | Number | Unknown] | None:
        """The bounds at `start`, or a number of titles said like them ("at most five films"): how many words, and which.

        said: the column of numbers that was named just before, if any.
        """
        for read in (self._range, self._prefixed, self._bare):
            if (found := read(words, start, said)) is not None:
                return found
        return None

    def number_at(self, words: Sequence[str], start: int) -> tuple[int, float] | None:
        """The number at `start`: how many words, and its value."""
        word = words[start]
        if word[0].isdigit():
            return (1, _digits(word)) if _DIGITS.fullmatch(word) else None
        if word == "single" and words[start + 1 : start + 2] and words[start + 1] in _COUNTED:
            return 1, 1.0
        if word == "half" and words[start + 1 : start + 3] == ["a", "dozen"]:
            return 3, 6.0
        after = words[start + 1] if start + 1 < len(words) else ""
        if word == "a" and after in ("dozen", "couple", "hundred", "pair"):
            length = 3 if words[start + 2 : start + 3] == ["of"] else 2
            return length, {"dozen": 12.0, "hundred": 100.0}.get(after, 2.0)
        if word not in WRITTEN:
            return None
        number, length = float(WRITTEN[word]), 1
        if number >= 20 and after in WRITTEN and 0 < WRITTEN[after] < 10:
            number, length = number + WRITTEN[after], 2
        if words[start + length : start + length + 1] == ["hundred"]:
            return length + 1, 100 * number
        return length, number

    def quantity_at(self, words: Sequence[str], start: int) -> tuple[int, Quantity] | None:
        """A number with its unit, or a decade."""
        place = start
        role = self.units.get(words[place], "") if place < len(words) else ""
        place += bool(role)
        if place >= len(words):
            return None
        if (decade := self._decade(words[place])) is not None:
            return None if role else (place + 1 - start, Quantity(decade, decade + 9, True, "year"))
        found = self.number_at(words, place)
        if found is None:
            return None
        place, number = place + found[0], found[1]
        if place < len(words) and words[place] in self.units and not role:
            role, place = self.units[words[place]], place + 1
            number *= self._minutes(words[place - 1])
        return place - start, Quantity(number, number, False, role)

    def _minutes(self, unit: str) -> int:
        """What a number of hours is multiplied by: lengths of more than a day's hours are minutes."""
        is_long = "length" in self.columns and float(np.nanmax(self.facets.numbers(self.columns["length"]))) > 24
        return 60 if unit in ("hour", "hours", "hrs") and is_long else 1

    def _decade(self, word: str) -> float | None:
        if "year" not in self.columns:
            return None
        if read := _DECADE.fullmatch(word):
            if read["century"]:
                return float(read["century"] + read["tens"] + "0")
            tens = int(read["tens"]) * 10
        elif word in _DECADES:
            tens = _DECADES[word]
        else:
            return None
        years = self.facets.numbers(self.columns["year"])
        inside = [c + tens for c in (1900, 2000) if ((years >= c + tens) & (years <= c + tens + 9)).any()]
        return float(inside[0] if inside else (2000 if tens < 20 else 1900) + tens)

    def _range(
        self, words: Sequence[str], start: int, said: str | None
    ) -> tuple[int, Limits | Number | Unknown] | None:
        """between A and B, from A to B, A to B; years or decades side by side ("the 70s and 80s", "1994 or 1995").

        Those that leave a gap are no range, and are not understood.
        """
        joiners = _BETWEEN.get(words[start])
        place = start + (joiners is not None)
        place = _after(words, place, _BEFORE)
        first = self.quantity_at(words, place)
        if first is None:
            return None
        place += first[0]
        if place >= len(words):
            return None
        links = joiners or ("to", "through", "until", *(("and", "or") if self._is_time(first[1]) else ()))
        if words[place] not in links:
            return None
        after = _after(words, place + 1, _BEFORE | {"from"})
        second = self.quantity_at(words, after) if after < len(words) else None
        is_listed = joiners is None and words[place] in ("and", "or")
        if second is None or (is_listed and not self._is_time(second[1])):
            return None
        low, high = sorted((first[1], second[1]), key=lambda one: one.low)
        if is_listed and high.low > low.high + 1:
            return after + second[0] - start, Unknown()
        column = self._column(Quantity(low.low, high.high, low.is_decade, low.role or high.role), "", said)
        if column is None:
            return None
        return after + second[0] - start, Limits(Bounds(column, low.low, high.high, both=True))

    def _prefixed(
        self, words: Sequence[str], start: int, said: str | None
    ) -> tuple[int, Limits | Number | Unknown] | None:
        """after 1990, under 20 euros, around 1980, in the nineties, from 20 up."""
        operator = self._operators.longest(words, start, lambda word: False)
        if operator is None:
            return None
        place = _after(words, start + operator[0], _BEFORE)
        if (
            operator[1].startswith("=")
            and place < len(words)
            and (found := self._range(words, place, said)) is not None
        ):
            return place + found[0] - start, found[1]  # "in the 70s or 80s"
        read = self.quantity_at(words, place) if place < len(words) else None
        if read is None:
            return None
        sign, place = operator[1], place + read[0]
        ending = self._endings.longest(words, place, lambda word: False) if place < len(words) else None
        if ending is not None and sign.startswith("=") and (ending[1] != "~" or not read[1].is_decade):
            sign, place = ending[1].removesuffix("from"), place + ending[0]
        return self._bounded(words, place, start, sign, read[1], said)

    def _bare(self, words: Sequence[str], start: int, said: str | None) -> tuple[int, Limits | Number | Unknown] | None:
        """1990 or later, 20 euros at most, the nineties, 1995."""
        read = self.quantity_at(words, start)
        if read is None:
            return None
        place = start + read[0]
        ending = self._endings.longest(words, place, lambda word: False) if place < len(words) else None
        if ending is not None and not ending[1].endswith("from"):
            return self._bounded(words, place + ending[0], start, ending[1], read[1], said)
        is_year = read[1].is_decade or (words[start][0].isdigit() and self._is_year(read[1].low))
        if not is_year or read[1].role not in ("", "year"):
            return None
        return self._bounded(words, place, start, "=year", read[1], said)

    def _bounded(
        self, words: Sequence[str], end: int, start: int, sign: str, read: Quantity, said: str | None
    ) -> tuple[int, Limits | Number | Unknown] | None:
        operator = sign.rstrip("abcdefghijklmnopqrstuvwxyz")
        role = sign[len(operator) :]
        column = self._column(read, role, said)
        if operator == "=" and (column is None or column != self.columns.get("year")):
            return None
        is_counted = end < len(words) and words[end] in _COUNTED and not read.role and not self._is_year(read.low)
        if column is None or is_counted:
            is_count = not read.role and not role and 1 <= read.low <= 100 and read.low % 1 == 0
            return end - start, Number(int(read.low)) if is_count and (is_counted or operator == "<=") else Unknown()
        low, high = read.low, read.high
        if operator == "~":
            space = (2, 2) if column == self.columns.get("year") else (abs(low) / 10, abs(high) / 10)
            bounds = Bounds(
                column, low - space[0] * (not read.is_decade), high + space[1] * (not read.is_decade), both=True
            )
        elif operator == "=":
            bounds = Bounds(column, low, high, both=True)
        elif operator in (">", ">="):
            bounds = Bounds(column, low=high if operator == ">" else low, open=operator == ">")
        else:
            bounds = Bounds(column, high=low if operator == "<" else high, open=operator == "<")
        return end - start, Limits(bounds)

    def _column(self, read: Quantity, role: str, said: str | None) -> str | None:
        """The column that a number is of: what its unit says, else what the words around it say where the number could be one."""
        if read.role:
            return self.columns.get(read.role)
        if said is not None:
            return said
        is_year = self._is_year(read.low) and self._is_year(read.high)
        price = self.columns.get("price")
        if role == "price":
            return price
        if is_year and (role == "year" or price is None or float(np.nanmax(self.facets.numbers(price))) < read.low):
            return self.columns["year"]
        if price is not None:
            return price
        others = [name for name in self.facets.number_columns if name != self.columns.get("year")]
        return others[0] if len(others) == 1 and not is_year else None

    def _is_time(self, read: Quantity) -> bool:
        """Whether a quantity is a year or a decade."""
        return read.is_decade or (read.role in ("", "year") and self._is_year(read.low))

    def _is_year(self, number: float) -> bool:
        return "year" in self.columns and 1800 <= number <= 2100 and number % 1 == 0


def _column_of(role: str, names: Sequence[str], facets: Facets) -> str | None:
    """The column of numbers that plays a role, by its name; of years also by its numbers."""
    for column in facets.number_columns:
        if set(plain_words(column)) & set(names):
            return column
    if role == "year":
        for column in facets.number_columns:
            numbers = facets.numbers(column)
            numbers = numbers[~np.isnan(numbers)]
            if facets.is_whole(column) and len(numbers) and numbers.min() >= 1800 and numbers.max() <= 2100:
                return column
    return None


def _after(words: Sequence[str], place: int, passed: frozenset[str]) -> int:
    stop = min(place + _PASSED, len(words) - 1)
    while place < stop and words[place] in passed:
        place += 1
    return place


def _digits(word: str) -> float:
    """1,000 and 1.000 are thousands, 14.90 and 14,90 decimals."""
    *whole, last = re.split(r"[.,]", word)
    if whole and len(last) != 3:
        return float("".join(whole) + "." + last)
    return float("".join([*whole, last]))


def is_number(word: str) -> bool:
    """Whether a word is a number, in digits or written out."""
    return word in WRITTEN or _DIGITS.fullmatch(word) is not None
