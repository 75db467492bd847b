"""Words that name titles of earlier turns: "the second", "number 3", "the last two", "it", "all of them" (rule 8)."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.conversation.edits import Mention
from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_rules.lexicon import vocabulary, word_list
from llmrec.conversation.wish_rules.numbers import WRITTEN
from llmrec.conversation.wish_rules.terms import Titles

_ORDINALS = {word: n for n, word in enumerate(vocabulary("numbers")["ordinals"], 1)} | {"top": 1}
_FROM_THE_END = {"last": 1, "final": 1, "bottom": 1, "penultimate": 2}
_NOUNS = word_list("reference_nouns")
_OTHER = word_list("no_reference")
_NUMBERED = {
    "number",
    "no",
    "nr",
    "num",
    "option",
    "title",
    "film",
    "movie",
    "item",
    "result",
    "suggestion",
    "position",
    "place",
    "rank",
    "entry",
}
_PRONOUNS = {"it": 1, "that": 1, "this": 1, "them": 0, "these": 0, "those": 0, "they": 0, "both": 2}


def reference_at(words: Sequence[str], start: int, state: ChatState, is_continued: bool) -> tuple[int, Titles] | None:
    """What stands at `start`: how many words, and the titles. is_continued: whether a reference came just before ("and third")."""
    for read in (_pronoun_phrase, _numbered, _pronoun):
        if (found := read(words, start, state)) is not None:
            return found
    return _ordinal(words, start, state, is_continued)


def shown_at(number: int, state: ChatState) -> Titles:
    """The title of the latest list with this number."""
    return _shown([number - 1], state, f"number {number}")


def _ordinal(words: Sequence[str], start: int, state: ChatState, is_continued: bool) -> tuple[int, Titles] | None:
    place = start
    has_article = words[place : place + 1] in (["the"], ["your"], ["that"])
    place += has_article
    if words[place : place + 1] == ["very"]:
        place += 1
    word = words[place] if place < len(words) else ""
    ordinal = _ORDINALS.get(word) or _number_of(word)
    end = _FROM_THE_END.get(word)
    if ordinal is None and end is None:
        return None
    place += 1
    if ordinal and words[place : place + 3] in (
        ["from", "the", "bottom"],
        ["from", "the", "end"],
        ["to", "the", "last"],
    ):
        end, ordinal, place = ordinal, None, place + 3
    elif ordinal == 2 and words[place : place + 2] == ["to", "last"]:
        end, ordinal, place = 2, None, place + 2
    after = words[place] if place < len(words) else ""
    if after in _OTHER:
        return None
    many = WRITTEN.get(after) or (int(after) if after.isdecimal() and len(after) < 3 else None)
    if many is not None and many > 1 and (ordinal == 1 or end == 1):
        place += 1
    else:
        many = 1
    after = words[place] if place < len(words) else ""
    has_noun = after in _NOUNS
    if not (has_article or has_noun or is_continued):
        return None
    place += has_noun
    if words[place : place + 4] in (["on", "the", "list"], ["in", "the", "list"], ["of", "the", "list"]):
        place += 3
    count = len(state.shown)
    if ordinal is not None:
        places = list(range(ordinal - 1, ordinal - 1 + many))
    else:
        places = list(range(count - (end or 1) - many + 1, count - (end or 1) + 1))
    return place - start, _shown(places, state, " ".join(words[start:place]))


def _numbered(words: Sequence[str], start: int, state: ChatState) -> tuple[int, Titles] | None:
    """number 3, no. 3, numbers 2 and 4."""
    word = words[start].removesuffix("s") if words[start] != "s" else ""
    place = start + 1
    if word not in _NUMBERED:
        return None
    if words[start] == "no" and words[place : place + 1] == ["."]:
        place += 1
    elif words[start] == "no":
        return None
    places = []
    end = place
    while place < len(words) and (number := _small(words[place])) is not None:
        places.append(number - 1)
        end = place + 1
        place = end + (words[end : end + 1] in (["and"], [","], ["or"]))
        if place == end:
            break
    if not places or (places[-1] >= len(state.shown) and word not in ("number", "no", "nr", "num")):
        return None
    return end - start, _shown(places, state, " ".join(words[start:end]))


def _pronoun_phrase(words: Sequence[str], start: int, state: ChatState) -> tuple[int, Titles] | None:
    """that one, all of them, none of these, both of them."""
    two, three = list(words[start : start + 2]), list(words[start : start + 3])
    if two in (["that", "one"], ["this", "one"]):
        return 2, Titles(_only(state), is_reference=True)
    if two in (
        ["that", "film"],
        ["that", "movie"],
        ["this", "film"],
        ["this", "movie"],
        ["the", "film"],
        ["the", "movie"],
    ):
        return 2, Titles(_only(state), is_reference=True, is_weak=True)
    pronouns = ("them", "these", "those", "the")
    if (
        len(three) == 3
        and three[0] in ("all", "any", "none", "either", "neither", "both", "every", "each")
        and three[1] == "of"
        and three[2] in pronouns
    ):
        length = (
            4
            if words[start + 3 : start + 4] in (["films"], ["movies"], ["titles"], ["ones"], ["things"], ["above"])
            else 3
        )
        if three[2] != "the" or length == 4:
            return length, _shown(range(len(state.shown)), state, " ".join(three))
    if two in (
        ["them", "all"],
        ["these", "all"],
        ["those", "all"],
        ["all", "these"],
        ["all", "those"],
        ["all", "them"],
        ["these", "ones"],
        ["those", "ones"],
    ):
        return 2, _shown(range(len(state.shown)), state, " ".join(two))
    if two[:1] == ["everything"] and list(words[start + 1 : start + 4]) in (
        ["on", "this", "list"],
        ["on", "the", "list"],
        ["in", "this", "list"],
    ):
        return 4, _shown(range(len(state.shown)), state, "the list")
    number = WRITTEN.get(two[1]) if len(two) == 2 else None
    if two[:1] in (["all"], ["those"], ["these"]) and number is not None and number == len(state.shown):
        return 2, _shown(range(number), state, " ".join(two))
    is_rest = two[:1] in (["all"], ["everything"]) and two[1:] in (["but"], ["except"])
    if is_rest and (left := _ordinal(words, start + 2, state, False)) is not None:
        kept = [place for place, item_id in enumerate(state.shown) if item_id not in left[1].mention.item_ids]
        return 2 + left[0], _shown(kept, state, f"all but {left[1].mention.text}")
    whole = ["the", "whole", "list"], ["the", "whole", "lot"], ["the", "entire", "list"]
    return (3, _shown(range(len(state.shown)), state, "the list")) if three in whole else None


def _pronoun(words: Sequence[str], start: int, state: ChatState) -> tuple[int, Titles] | None:
    many = _PRONOUNS.get(words[start])
    if many is None:
        return None
    if many == 1:
        return 1, Titles(_only(state), is_reference=True, is_weak=True)
    if many == 2 and len(state.shown) != 2:
        return 1, Titles(Mention("both"), is_reference=True, is_weak=True)
    return 1, Titles(Mention(words[start], state.shown), is_reference=True, is_weak=True)


def _only(state: ChatState) -> Mention:
    """Rule 8: the only title of the list, or the title last liked."""
    if len(state.shown) == 1:
        return Mention("it", state.shown)
    return Mention("it", state.liked[-1:])


def _shown(places: Sequence[int] | range, state: ChatState, text: str) -> Titles:
    found = tuple(state.shown[place] for place in places if 0 <= place < len(state.shown))
    return Titles(Mention(text, found if len(found) == len(places) else ()), is_reference=True)


def _small(word: str) -> int | None:
    if word.isdecimal() and len(word) < 4:
        return int(word) or None
    return WRITTEN.get(word) or None


def _number_of(word: str) -> int | None:
    """3rd -> 3."""
    return (
        int(word[:-2]) or None
        if word[-2:] in ("st", "nd", "rd", "th") and word[:-2].isdecimal() and len(word) < 6
        else None
    )
