"""Finds items by titles as people type them: case, accents, punctuation, articles, years and small slips do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from llmrec.data.catalog import Catalog

MAX_QUERY_CHARACTERS = 200
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
        self._items_of: dict[str, list[int]] = defaultdict(list)
        self._with_word: dict[str, set[str]] = defaultdict(set)
        self.years = [_year(catalog, item) for item in range(catalog.num_items)]
        for item, title in enumerate(catalog.titles):
            if self.years[item] is None and (dated := _YEAR_AT_END.match(title)):
                self.years[item] = dated["year"]
            for name in _names(title):
                self._items_of[name].append(item)
                for word in name.split():
                    self._with_word[word].add(name)
        self._known = list(self._items_of)

    def find(self, query: str) -> Match:
        """The items that `query` may mean: the same title, else titles with all its words, else titles spelt alike.

        A year after the title chooses among them ("sabrina 1954").
        """
        query = query[:MAX_QUERY_CHARACTERS]
        if not normalised(query):
            return Match("near", [])
        same = self._items_of.get(normalised(query))  # a year may be the title: "1984", "blade runner 2049"
        if same:
            return Match("sure" if len(same) == 1 else "open", list(same))
        dated = _YEAR_AT_END.match(query)
        if dated:
            found = self._find(normalised(dated["title"]))
            of_year = [item for item in found.items if self.years[item] == dated["year"]]
            if found.kind != "near":
                return Match("sure", of_year) if len(of_year) == 1 else Match("open", of_year or found.items)
        return self._find(normalised(query))

    def named(self, title: str) -> list[int]:
        """The items of exactly this title, a year after it or not; none where it is only begun, or spelt otherwise."""
        same, dated = self._items_of.get(normalised(title), []), _YEAR_AT_END.match(title)
        undated = self._items_of.get(normalised(dated["title"]), []) if dated else []
        return list(dict.fromkeys([*same, *(item for item in undated if self.years[item] == dated["year"])]))

    def with_words(self, words: str) -> list[int]:
        """The items whose titles hold these words, side by side: "star trek" of "Star Trek: Generations"."""
        wanted = normalised(words)
        if not wanted:
            return []
        names = set.intersection(*(self._with_word.get(word, set()) for word in wanted.split()))
        return self._items(sorted(name for name in names if f" {wanted} " in f" {name} "))

    def _find(self, query: str) -> Match:
        similarity = 1.0
        items = self._items_of.get(query) or self._containing(query)
        if not items:
            items, similarity = self._alike(query)
        if not items:
            return Match("near", self._nearest(query))
        return Match("sure" if len(items) == 1 and similarity >= _SURELY else "open", list(items))

    def _containing(self, query: str) -> list[int]:
        """Items of titles with all words of the query, the last perhaps only begun; shortest titles first.

        Short queries begin too much ("et"): they are completed only where no title has them as a word.
        """
        *whole, last = query.split()
        begun = [word for word in self._with_word if word.startswith(last)] if len(last) > 1 else [last]
        for ends in ([last], begun) if len(query) < 4 else (begun,):
            names = set().union(*(self._with_word.get(word, ()) for word in ends))
            for word in whole:
                names &= self._with_word.get(word, set())
            if names:
                return self._items(sorted(names, key=lambda name: (len(name), name)))
        return []

    def _alike(self, query: str) -> tuple[list[int], float]:
        """Items of the titles that a slip or two of the fingers away are the query, and how alike they are."""
        scored = process.extract(query, self._known, scorer=OSA.normalized_similarity, limit=9, score_cutoff=_MAYBE)
        best = scored[0][1] if scored else 0.0
        return self._items([name for name, score, _ in scored if score > best - 0.05]), best

    def _nearest(self, query: str, limit: int = 3) -> list[int]:
        # WRatio also likes a part of a title; too generous to decide by, right for a hint.
        scored = process.extract(query, self._known, scorer=fuzz.WRatio, limit=limit)
        return self._items([name for name, score, _ in scored if score > 0])[:limit]

    def _items(self, names: Sequence[str]) -> list[int]:
        return list(dict.fromkeys(item for name in names for item in self._items_of[name]))


def normalised(title: str) -> str:
    """The title as it is compared: "The Usual Suspects" -> "usual suspects", "E.T." -> "et", "Rocky III" -> "rocky 3"."""
    text = unicodedata.normalize("NFKD", title).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"['’`]", "", text.replace("&", " and "))
    text = re.sub(r"[\W_]+", " ", text).strip()
    text = re.sub(r"\b[^\W\d](?: [^\W\d]\b)+", lambda letters: letters[0].replace(" ", ""), text)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def _names(title: str) -> set[str]:
    """The forms of one title that people type: whole, without a year, without and only what stands in brackets."""
    dated = _YEAR_AT_END.match(title)
    forms = {title, dated["title"] if dated and title.rstrip().endswith(")") else title}
    for form in tuple(forms):
        forms |= {re.sub(r"\([^)]*\)", " ", form), *re.findall(r"\(([^)]*\D[^)]*)\)", form)}
    return {name for form in forms if (name := normalised(form))}


def _year(catalog: Catalog, item: int) -> str | None:
    if "year" not in catalog.fields:
        return None
    return catalog.text(item, "year").removesuffix(".0") or None
