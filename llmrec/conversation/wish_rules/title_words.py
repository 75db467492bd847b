"""Titles of the catalogue within a message: where they stand, and when words of a title are that title."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from rapidfuzz.distance import OSA

from llmrec.conversation.edits import Mention
from llmrec.conversation.wish_rules.terms import Titles
from llmrec.conversation.wish_rules.words import Word
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch, normalised

MAX_WORDS = 16  # of a title in a message
_ARTICLES = ("the", "a", "an")
_KEPT = 4096  # look-ups: the words of a message come again and again
_PART_WORDS = 6  # of a part of a title that is not wanted
_TRIED, _SLIPS = 3, 0.75  # beginnings that are looked up as titles with slips; the share of their letters that agrees
_SPELLINGS = 50  # titles that are looked at for how words are spelled


class TitleWords:
    """Looks words of a message up in a catalogue's titles."""

    def __init__(self, catalog: Catalog, search: TitleSearch) -> None:
        self.catalog, self.search = catalog, search
        self._named, self._has_word = lru_cache(_KEPT)(search.named), lru_cache(_KEPT)(search.has_word)
        self._with_words = lru_cache(_KEPT)(search.with_words)
        self._spelled = lru_cache(_KEPT)(self._spelling)

    def at(self, message: str, words: Sequence[Word], start: int) -> list[tuple[int, Titles]]:
        """The titles that begin with word `start`, the longest first: where each ends, and which it is."""
        if words[start].text in _ARTICLES and start + 1 < len(words):  # titles are meant without their article, too
            start += 1
        if not self._begins(words, start):
            return []
        found = []
        for end in range(min(start + MAX_WORDS, len(words)), start, -1):
            if not _is_word(words[end - 1]) or (end < len(words) and words[end].start == words[end - 1].start):
                continue
            text = message[words[start].start : words[end - 1].end]
            year = _year_behind(message, words, end)
            items = self._named(text + year[1]) if year else []
            if items and year:
                found.append((year[0], self._titles(text + year[1], items)))
            elif items := self._named(text):
                found.append((end, self._titles(text, items)))
        return found

    def part_at(
        self, message: str, words: Sequence[Word], start: int, is_ordinary: Callable[[str], bool]
    ) -> tuple[int, Titles] | None:
        """The longest words from `start` on that titles hold ("star trek"), with how the catalogue spells them."""
        if words[start].text in _ARTICLES and start + 1 < len(words):
            start += 1
        is_inside = start > 0 and words[start - 1].start == words[start].start
        if not _is_word(words[start]) or is_inside or is_ordinary(words[start].text):
            return None
        if not any(
            self._has_word(form) for form in (words[start].text, _singular(words[start].text), f"{words[start].text}s")
        ):
            return None
        for end in range(min(start + _PART_WORDS, len(words)), start, -1):
            if not all(_is_word(word) for word in words[start:end]) or is_ordinary(words[end - 1].text):
                continue
            text = message[words[start].start : words[end - 1].end]
            for form in dict.fromkeys((text, _singular(text), f"{text}s")):
                if len(normalised(form)) > 2 and (items := self._with_words(form)):
                    return end, self._part(form, items)
        return None

    def typed_at(
        self, message: str, words: Sequence[Word], start: int, is_ordinary: Callable[[str], bool]
    ) -> tuple[int, Titles] | None:
        """A title with slips, or two or more of its words, where a title must stand. Where it is not clear it has no items yet."""
        part = self.part_at(message, words, start, is_ordinary)
        if part is not None and part[0] - start > 1:
            return part[0], Titles(part[1].mention)
        ends = [
            end
            for end in range(min(start + _PART_WORDS, len(words)), start, -1)
            if not is_ordinary(words[end - 1].text)
        ]
        ends = [end for end in ends if all(_is_word(word) for word in words[start:end])]
        for end in ends[:_TRIED]:
            text = message[words[start].start : words[end - 1].end]
            match = self.search.find(text)
            if match.kind != "near" and self._likeness(text, match.items[0]) >= _SLIPS:
                return end, self._titles(text, match.items) if match.kind == "sure" else Titles(Mention(text))
        return None

    def _likeness(self, text: str, item: int) -> float:
        """The share of letters that agrees with a title, 0 to 1: what a search finds may only begin like the words."""
        return OSA.normalized_similarity(normalised(text), normalised(self.catalog.title(item)))

    def shared(self, titles: Titles) -> str:
        """A title's words as the catalogue spells them where more than one title has them, "" otherwise."""
        return self._spelled(titles.mention.text) if len(self._with_words(titles.mention.text)) > 1 else ""

    def are_in_titles(self, words: str) -> bool:
        """Whether a title holds these words, side by side."""
        return bool(self._with_words(words))

    def _begins(self, words: Sequence[Word], start: int) -> bool:
        """Whether a title may begin here: some title has the word."""
        is_inside = start > 0 and words[start - 1].start == words[start].start
        return _is_word(words[start]) and not is_inside and (
            len(words[start].text) == 1 or self._has_word(words[start].text) or "'" in words[start].text
        )  # fmt: skip

    def _titles(self, text: str, items: Sequence[int]) -> Titles:
        return Titles(Mention(text, (self.catalog.item_id(items[0]),) if len(items) == 1 else ()))

    def _part(self, text: str, items: Sequence[int]) -> Titles:
        if len(items) == 1:
            return Titles(Mention(self.catalog.title(items[0]), (self.catalog.item_id(items[0]),)), part=True)
        return Titles(Mention(text), shared=self._spelled(text), part=True)

    def _spelling(self, text: str) -> str:
        """How most titles write these words."""
        wanted = len(normalised(text).split())
        spellings: Counter[str] = Counter()
        for item in self._with_words(text)[:_SPELLINGS]:
            title = self.catalog.title(item).split()
            for first in range(len(title)):
                for last in range(first + 1, min(first + wanted + 3, len(title)) + 1):
                    piece = " ".join(title[first:last])
                    if normalised(piece) == normalised(text) and normalised(title[first]) not in _ARTICLES:
                        spellings[piece.strip(" :;,.!?()\"'")] += 1
                        break
        return spellings.most_common(1)[0][0] if spellings else text


def _is_word(word: Word) -> bool:
    return word.text not in (".", ",", '"')


def _year_behind(message: str, words: Sequence[Word], end: int) -> tuple[int, str] | None:
    """A year in brackets behind word `end`: where the words go on after it, and its text."""
    if end + 1 >= len(words) or message[words[end].start] != "(":
        return None
    year = words[end + 1]
    if not (year.text.isdecimal() and len(year.text) == 4):
        return None
    after = end + 2
    if after < len(words) and message[words[after].start] == ")":
        after += 1
    return after, f" ({year.text})"


def _singular(text: str) -> str:
    if text.endswith("ies"):
        return f"{text[:-3]}y"
    return text[:-1] if text.endswith("s") and not text.endswith("ss") else text
