"""Finds items by titles as people type them: case, accents, punctuation, articles, years and small slips do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

import numpy as np
import pyarrow as pa
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from llmrec.data.catalog import Catalog
from llmrec.data.title_index import TitleIndex, common

MAX_QUERY_CHARACTERS = 200
MOST_NAMES = 10_000  # titles that a query finds
SCANNED = 10_000  # names up to which a query is compared with each
_COMPARED = 2_000  # names that it is compared with where there are more, of each of two kinds
_SAME_START = 2  # characters that names begin alike by
_UNKNOWN_WORDS, _WORDS_COMPARED, _NEAR_WORD = (
    4,
    60_000,
    0.6,
)  # words of a query that no title has, and where they are looked for
_ARTICLES = {"the", "a", "an"}
_NUMBERS = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "two": "2", "three": "3",
            "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11",
            "twelve": "12"}  # fmt: skip
_YEAR_AT_END = re.compile(r"^(?P<title>.*\S)\s*[\s(](?P<year>(?:18|19|20)\d\d)\)?\s*$")
# Shares of letters that agree: "jurasic prak" for Jurassic Park has .85, "rocky" for The Rock .80.
_MAYBE, _SURELY = 0.75, 0.84


@dataclass(frozen=True)
class Match:
    """What a typed title may mean: `sure`, one item; `open`, one of these; `near`, none, but these come nearest."""

    kind: Literal["sure", "open", "near"]
    items: list[int]


class TitleSearch:
    """An index over a catalogue's titles; a column `year` tells items of one title apart."""

    def __init__(self, catalog: Catalog) -> None:
        titles, self.years = catalog.titles, _years(catalog)
        for item, title in enumerate(titles):
            if self.years[item] is None and (dated := _dated(title)):
                self.years[item] = dated["year"]
        self._index = TitleIndex(map(_names, titles))

    def find(self, query: str) -> Match:
        """The items that `query` may mean: the same title, else titles with all its words, else titles spelt alike.

        A year after the title chooses among them ("sabrina 1954"). At most MOST_NAMES titles; of catalogues of more than SCANNED, those
        spelt alike are looked for where a word, or the beginning, is the same or nearly so.
        """
        query = query[:MAX_QUERY_CHARACTERS]
        if not normalised(query):
            return Match("near", [])
        same = self._items_of(normalised(query))  # a year may be the title: "1984", "blade runner 2049"
        if same:
            return Match("sure" if len(same) == 1 else "open", same)
        dated = _dated(query)
        if dated:
            found = self._find(normalised(dated["title"]))
            of_year = [item for item in found.items if self.years[item] == dated["year"]]
            if found.kind != "near":
                return Match("sure", of_year) if len(of_year) == 1 else Match("open", of_year or found.items)
        return self._find(normalised(query))

    def named(self, title: str) -> list[int]:
        """The items of exactly this title, a year after it or not; none where it is only begun, or spelt otherwise."""
        same, dated = self._items_of(normalised(title)), _dated(title)
        undated = self._items_of(normalised(dated["title"])) if dated else []
        return list(dict.fromkeys([*same, *(item for item in undated if self.years[item] == dated["year"])]))

    def has_word(self, word: str) -> bool:
        """Whether a title has this word."""
        return len(self._index.with_word(normalised(word))) > 0

    def begun(self, begun: str, limit: int) -> list[int]:
        """The items that `begun` may become: of titles with all its words, the last perhaps only begun; shortest titles first."""
        *whole, last = normalised(begun[:MAX_QUERY_CHARACTERS]).split() or [""]
        if len(last) + len(whole) < 2:  # one letter begins too much
            return []
        names = self._index.with_word_begun(last)
        if whole:
            names = common(names, self._with_all(whole))
        return self._index.items(self._index.shortest(names, limit))[:limit]

    def with_words(self, words: str) -> list[int]:
        """The items whose titles hold these words, side by side: "star trek" of "Star Trek: Generations"."""
        wanted = normalised(words)
        if not wanted:
            return []
        numbers = self._with_all(wanted.split())
        names = self._index.names
        held = [number for number in numbers.tolist() if f" {wanted} " in f" {names[number]} "]
        return self._index.items(sorted(held, key=names.__getitem__))

    def _items_of(self, name: str) -> list[int]:
        number = self._index.number(name)
        return [] if number is None else self._index.items([number])

    def _find(self, query: str) -> Match:
        similarity = 1.0
        items = self._items_of(query) or self._containing(query)
        if not items:
            items, similarity = self._alike(query)
        if not items:
            return Match("near", self._nearest(query))
        return Match("sure" if len(items) == 1 and similarity >= _SURELY else "open", items)

    def _containing(self, query: str) -> list[int]:
        """Items of titles with all words of the query, the last perhaps only begun; shortest titles first.

        Short queries begin too much ("et"): they are completed only where no title has them as a word.
        """
        *whole, last = query.split()
        is_begun = (False, True) if len(query) < 4 else (True,)
        held = self._with_all(whole) if whole else None
        for begun in is_begun:
            names = self._index.with_word_begun(last) if begun and len(last) > 1 else self._index.with_word(last)
            if held is not None:
                names = common(names, held)
            if len(names):
                return self._index.items(self._index.shortest(names, MOST_NAMES))
        return []

    def _with_all(self, words: Sequence[str]) -> np.ndarray:
        """The names that have all these words: int32, ascending."""
        return reduce(common, sorted(map(self._index.with_word, words), key=len))

    def _alike(self, query: str) -> tuple[list[int], float]:
        """Items of the titles that a slip or two of the fingers away are the query, and how alike they are."""
        scored = self._scored(query, OSA.normalized_similarity, limit=9, score_cutoff=_MAYBE)
        best = scored[0][1] if scored else 0.0
        return self._index.items([number for number, score in scored if score > best - 0.05]), best

    def _nearest(self, query: str, limit: int = 3) -> list[int]:
        # WRatio also likes a part of a title; too generous to decide by, right for a hint.
        scored = self._scored(query, fuzz.WRatio, limit=limit)
        return self._index.items([number for number, score in scored if score > 0])[:limit]

    def _scored(self, query: str, scorer: Callable, limit: int, **more: float) -> list[tuple[int, float]]:
        """The names most alike to the query, best first, and how alike: all are compared, or of many those of `_candidates`."""
        names = self._index.names
        if len(names) <= SCANNED:
            found = process.extract(query, names, scorer=scorer, limit=limit, **more)
            return [(place, score) for _, score, place in found]
        numbers = self._candidates(query)
        found = process.extract(query, [names[number] for number in numbers], scorer=scorer, limit=limit, **more)
        return [(numbers[place], score) for _, score, place in found]

    def _candidates(self, query: str) -> list[int]:
        """The names worth comparing with the query: those that begin alike, and those with most of its words, nearly or quite."""
        index, words = self._index, list(dict.fromkeys(query.split()))
        begun = index.begun(query[:_SAME_START])
        if len(begun) > _COMPARED:
            begun = index.begun(query[: _SAME_START + 1])[:_COMPARED]
        held = [index.with_word(word) for word in words]
        unknown = sorted(
            (word for word, names in zip(words, held, strict=True) if not len(names)), key=len, reverse=True
        )
        for word in unknown[:_UNKNOWN_WORDS]:
            known = index.words_begun(word[:1])
            if len(known) > _WORDS_COMPARED:
                known = index.words_begun(word[:_SAME_START])
            close = process.extract(word, known, scorer=OSA.normalized_similarity, limit=5, score_cutoff=_NEAR_WORD)
            held += [index.with_word(other) for other, _, _ in close]
        numbers, counts = np.unique(np.concatenate(held), return_counts=True)
        if len(numbers) > _COMPARED:
            numbers = numbers[np.argsort(-counts, kind="stable")[:_COMPARED]]
        return np.union1d(begun, numbers).tolist()


def normalised(title: str) -> str:
    """The title as it is compared: "The Usual Suspects" -> "usual suspects", "E.T." -> "et", "Rocky III" -> "rocky 3"."""
    text = title.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", title).casefold()
        text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"['’`]", "", text.replace("&", " and "))
    text = re.sub(r"[\W_]+", " ", text).strip()
    text = re.sub(r"\b[^\W\d](?: [^\W\d]\b)+", lambda letters: letters[0].replace(" ", ""), text)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def _names(title: str) -> set[str]:
    """The forms of one title that people type: whole, without a year, without and only what stands in brackets."""
    dated = _dated(title)
    forms = {title, dated["title"] if dated and title.rstrip().endswith(")") else title}
    for form in tuple(forms) if "(" in title else ():
        forms |= {re.sub(r"\([^)]*\)", " ", form), *re.findall(r"\(([^)]*\D[^)]*)\)", form)}
    return {name for form in forms if (name := normalised(form))}


def _dated(title: str) -> re.Match | None:
    """The title and the year at its end, where there is one."""
    return _YEAR_AT_END.match(title) if title.rstrip()[-2:].rstrip(")").isdigit() else None


def _years(catalog: Catalog) -> list[str | None]:
    if "year" not in catalog.fields:
        return [None] * catalog.num_items
    column = catalog.table["year"]
    values = (
        column.to_pylist()
        if pa.types.is_string(column.type)
        else map(partial(catalog.text, field="year"), range(catalog.num_items))
    )
    known: dict[str, str] = {}  # a text for each year, not for each item
    texts = ((value or "").removesuffix(".0") for value in values)
    return [known.setdefault(text, text) or None for text in texts]
