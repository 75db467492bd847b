"""A message as terms: at every place the longest that the catalogue or the reader's own words know, typing errors mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rapidfuzz import process
from rapidfuzz.distance import OSA

from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_rules import references
from llmrec.conversation.wish_rules.lexicon import vocabulary
from llmrec.conversation.wish_rules.numbers import Numbers, is_number
from llmrec.conversation.wish_rules.phrasebook import Phrasebook
from llmrec.conversation.wish_rules.terms import (
    Adjective,
    ColumnName,
    Comparative,
    Cue,
    Filler,
    Limits,
    Meaning,
    Number,
    Quality,
    Term,
    Titles,
    Unknown,
    Value,
)
from llmrec.conversation.wish_rules.title_words import TitleWords
from llmrec.conversation.wish_rules.words import Word, words_of
from llmrec.data.title_search import TitleSearch

_BREAKS = (".", ",", '"')
_TITLE_CUES = {
    "like",
    "dislike",
    "seen",
    "forget",
    "not",
    "than",
    "explain",
    "more",
    "less",
    "allow",
    "ignore",
}  # a title may follow
_BEFORE_TITLE = {
    "the",
    "a",
    "an",
    "my",
    "that",
    "film",
    "movie",
    "called",
    "titled",
    "named",
    "watching",
    "seeing",
    "of",
    "to",
    "about",
    "in",
    "is",
    "was",
}
_ENDS_A_TITLE = {
    "please",
    "pls",
    "plz",
    "thanks",
    "too",
    "again",
    "then",
    "is",
    "was",
    "were",
    "are",
    "but",
    "and",
    "or",
    "though",
    "maybe",
    "perhaps",
}
_LOOKED_BACK = 12  # terms between a cue and what it speaks of
_MENDED = 60  # words of one message that are compared with all the reader knows
_RANK = (Titles, Value, Quality, Comparative, Adjective, Limits, ColumnName, Number, Cue, Filler, Unknown)


class Lexer:
    """Reads messages over one catalogue."""

    def __init__(self, facets: Facets, search: TitleSearch) -> None:
        self.numbers = Numbers(facets)
        self.book = Phrasebook(facets, self.numbers)
        self.titles = TitleWords(facets.catalog, search)
        self.search = search
        self._spelled = frozenset(vocabulary("spelled"))
        self._long_words = sorted(word for word in self.book.words if len(word) >= 4)

    def terms(self, message: str, state: ChatState) -> tuple[list[Term], list[Word]]:
        """The terms of a message, and the words that they are of, mended."""
        words = self._mended(words_of(message))
        texts = [word.text for word in words]
        found: list[Term] = []
        place = 0
        while place < len(words):
            if texts[place] in _BREAKS:
                if texts[place] != '"':
                    found.append(Term(place, place + 1, Cue("stop" if texts[place] == "." else "comma")))
                place += 1
                continue
            end, meaning = self._longest(message, words, texts, place, found, state)
            found.append(Term(place, end, meaning))
            place = end
        return found, words

    def _longest(
        self,
        message: str,
        words: Sequence[Word],
        texts: list[str],
        place: int,
        before: Sequence[Term],
        state: ChatState,
    ) -> tuple[int, Meaning]:
        candidates: list[tuple[int, Meaning]] = []
        for end, titles in self.titles.at(message, words, place):
            if self._is_meant(words, texts, place, end, before):
                candidates.append((end, titles))
                break
        if (phrase := self.book.phrases.longest(texts, place, is_number)) is not None:
            candidates.append((place + phrase[0], phrase[1]))
            if phrase[1] == Cue("less") and texts[place] == "not" and self._is_reference(texts, place + 1, state):
                return place + 1, Cue("not")  # "not that one", against "not that scary"
        if (bounds := self.numbers.bounds_at(texts, place, _said(before, self.numbers))) is not None:
            candidates.append((place + bounds[0], bounds[1]))
        if texts[place] in ("before", "after") and self._names(message, words, texts, place + 1, before, state):
            return place + 1, Comparative(self.numbers.columns["year"], texts[place] == "before")
        is_continued = bool(before) and _is_joined_reference(before)
        if (reference := references.reference_at(texts, place, state, is_continued)) is not None:
            if reference[1].is_weak:
                candidates.append((place + reference[0], reference[1]))
            else:
                return place + reference[0], reference[1]
        if (number := self.numbers.number_at(texts, place)) is not None and number[1] % 1 == 0:
            candidates.append((place + number[0], self._numbered(int(number[1]), before, state)))
        if not any(isinstance(meaning, Value) for _, meaning in candidates) and _awaits_words(before):
            part = self.titles.part_at(message, words, place, self._is_ordinary)
            if part is not None:
                candidates.append(part)
        if not candidates and self._follows_title_cue(texts, place, before):
            typed = self.titles.typed_at(message, words, place, self._is_ordinary)
            return (place + 1, Unknown()) if typed is None else typed
        if not candidates:
            return place + 1, Unknown()
        return max(candidates, key=lambda found: (found[0], -_RANK.index(type(found[1]))))

    def _names(
        self,
        message: str,
        words: Sequence[Word],
        texts: list[str],
        place: int,
        before: Sequence[Term],
        state: ChatState,
    ) -> bool:
        """Whether a title of the catalogue or of the list stands at `place`, and it may be compared with by its year."""
        if place == len(words) or "year" not in self.numbers.columns:
            return False
        after = [*before, Term(place - 1, place, Cue("than"))]
        if any(self._is_meant(words, texts, place, end, after) for end, _ in self.titles.at(message, words, place)):
            return True
        return self._is_reference(texts, place, state)

    def _is_reference(self, texts: list[str], place: int, state: ChatState) -> bool:
        reference = references.reference_at(texts, place, state, False)
        return reference is not None and not reference[1].is_weak

    def _numbered(self, number: int, before: Sequence[Term], state: ChatState) -> Meaning:
        """A bare number behind "like", "not" or "why" is a place in the list."""
        cue = next(
            (one.meaning for one in reversed(before[-_LOOKED_BACK:]) if not isinstance(one.meaning, Filler)), None
        )
        is_place = (
            isinstance(cue, Cue)
            and cue.name in ("like", "not", "seen", "dislike", "explain")
            and number <= len(state.shown)
        )
        if (is_place or (before and _is_joined_reference(before))) and 1 <= number <= len(state.shown):
            return references.shown_at(number, state)
        return Number(number)

    def _is_ordinary(self, word: str) -> bool:
        """Whether a word means something by itself, or is said of nothing: a title of this word only must be told apart."""
        return word in self.book.alone

    def _is_meant(self, words: Sequence[Word], texts: list[str], start: int, end: int, before: Sequence[Term]) -> bool:
        """Whether words that are a title mean the title here, and not what they say."""
        first = start + 1 if texts[start] in ("the", "a", "an") and end - start > 1 else start
        title = [word for word in words[first:end] if word.text not in _BREAKS]
        if start and end < len(words) and texts[start - 1] == texts[end] == '"':
            return True
        is_known = [self._is_ordinary(word.text) or is_number(word.text) for word in title]
        is_capital = all(
            word.is_capital for word, known in zip(title, is_known, strict=True) if len(word.text) > 3 or not known
        )
        is_capital = is_capital and any(word.is_capital for word in title)
        rest = [text for text in (*texts[:first], *texts[end:]) if text not in _BREAKS]
        follows = self._follows_title_cue(texts, first, before)
        is_alone = self._is_alone(texts, first, end, before)
        if len(title) > 1:
            if not all(is_known) or is_capital or len(title) >= 4:
                return True
            return not rest or is_alone or (follows and not self._is_value(texts[first:end]))
        if is_known[0]:
            return is_capital and follows and first > 0 and title[0].text not in self.book.value_words
        if title[0].is_capital and first > 0 and texts[first - 1] != ".":
            return True
        return follows or is_alone or all(self._is_ordinary(text) for text in rest)

    def _is_alone(self, texts: list[str], start: int, end: int, before: Sequence[Term]) -> bool:
        """Whether words are a clause of their own, or its subject: "Heat was great"."""
        first = start - 1 if start and texts[start - 1] in ("the", "a", "an") else start
        is_first = (
            first == 0 or texts[first - 1] in (".", ",") or (bool(before) and _is_cue(before[-1], "but", "and", "or"))
        )
        return is_first and (end == len(texts) or texts[end] in _BREAKS or texts[end] in _ENDS_A_TITLE)

    def _is_value(self, texts: list[str]) -> bool:
        found = self.book.phrases.longest(texts, 0, is_number)
        return found is not None and found[0] == len(texts) and isinstance(found[1], Value | Quality)

    def _follows_title_cue(self, texts: list[str], start: int, before: Sequence[Term]) -> bool:
        """Whether a title must follow here: "like Heat", "I have seen Heat", "Fargo and Heat"."""
        for term in reversed(before[-_LOOKED_BACK:]):
            if _is_cue(term, *_TITLE_CUES):
                return True
            if _is_cue(term, "and", "or", "comma"):
                continue
            if isinstance(term.meaning, Titles):
                return not term.meaning.is_weak and any(_is_cue(one, "and", "or", "comma") for one in before[-2:])
            if not (
                isinstance(term.meaning, Filler | ColumnName) and set(texts[term.start : term.end]) <= _BEFORE_TITLE
            ):
                return False
        return False

    def _mended(self, words: list[Word]) -> list[Word]:
        """Words that nothing knows, as the nearest word that the reader knows: one slip in 4 to 7 letters, two in more."""
        mended, left = [], _MENDED
        for place, word in enumerate(words):
            text = word.text
            is_name = word.is_capital and place > 0 and words[place - 1].text != "."
            if (
                len(text) < 4
                or not text.isalpha()
                or is_name
                or text in self.book.words
                or text in self._spelled
                or self.search.has_word(text)
                or not left
            ):
                mended.append(word)
                continue
            left -= 1
            slips = 1 if len(text) < 8 else 2
            found = process.extract(text, self._long_words, scorer=OSA.distance, score_cutoff=slips, limit=None)
            alike = [other for other, slip, _ in found if _is_slip(text, other, slip)]
            mended.append(replace(word, text=min(alike, key=partial(self._unlikeness, text))) if alike else word)
        return mended

    def _unlikeness(self, text: str, word: str) -> tuple:
        """How unlikely it is that a word was typed as `text`: turned letters come first, then lost and doubled ones, then others."""
        is_turned, is_other = sorted(text) == sorted(word), len(text) == len(word)
        return (
            OSA.distance(text, word),
            not is_turned,
            is_other,
            word not in self.book.telling,
            text[-1] != word[-1],
            word,
        )


def _is_slip(text: str, word: str, slips: int) -> bool:
    """Whether one word may be typed for another: the first letter is right, not only the ending differs ("gardener", "garden")."""
    same = next((place for place, (one, other) in enumerate(zip(text, word, strict=False)) if one != other), len(word))
    return same > 0 and (slips == 1 or same < len(text) - 2)


def _is_cue(term: Term, *names: str) -> bool:
    return isinstance(term.meaning, Cue) and term.meaning.name in names


def _is_joined_reference(before: Sequence[Term]) -> bool:
    """Whether "and" or a comma behind a place in the list comes just before."""
    if not _is_cue(before[-1], "and", "or", "comma") or len(before) < 2:
        return False
    last = before[-2].meaning
    return isinstance(last, Titles) and last.is_reference and not last.is_weak


def _said(before: Sequence[Term], numbers: Numbers) -> str | None:
    """The column of numbers that was named just before: "a rating above 4"."""
    last = next((one.meaning for one in reversed(before[-_LOOKED_BACK:]) if not isinstance(one.meaning, Filler)), None)
    return last.column if isinstance(last, ColumnName) and last.column in numbers.facets.number_columns else None


def _awaits_words(before: Sequence[Term]) -> bool:
    """Whether words of titles may follow: behind "not" or "forget", fillers and "or" between."""
    for term in reversed(before[-_LOOKED_BACK:]):
        if _is_cue(term, "not", "forget", "allow"):
            return True
        is_between = isinstance(term.meaning, Filler | Unknown) or _is_cue(
            term, "or", "and", "comma", "more", "any", "also", "again"
        )
        if not is_between and not (isinstance(term.meaning, Titles) and term.meaning.part):
            return False
    return False
