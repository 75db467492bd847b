"""The form in which a language model writes what a message asks for: one line an edit, its values the catalogue's own.

    more genres: Comedy
    year to: 1979
    end

Columns and values come from `Facets`, titles and words of titles from the message and the state, numbers from the message and from
columns of few whole numbers. What a line means is known by its place in the lists, so nothing that was written is read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.conversation.edits import (
    Action,
    Allow,
    Bounds,
    Compare,
    Count,
    Drop,
    Edit,
    Exclude,
    ForgetColumn,
    ForgetTitles,
    Lean,
    Mark,
    Mention,
    Require,
    Surprise,
    Wishes,
    Without,
)
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import MAX_COUNT, ChatState
from llmrec.conversation.wish_rules.title_words import TitleWords
from llmrec.conversation.wish_rules.words import words_of

STOP = "end"
MAX_LINES = 6  # of one message
MAX_VALUES = 200  # of a column that the form lists; a column of more is left to the rules
MAX_COLUMNS = 8  # of each kind
_MAX_NUMBERS = 200  # different whole numbers, such as years, that may be written where the message does not name them
_MOST_NAMES = 12  # titles that one message may name
_SHORTEST_PART = 6  # letters of a word that may stand for the titles that have it; "last" and "made" are in some, too
_NUMBER = re.compile(r"\d{1,7}(?:\.\d{1,4})?")
_ACTIONS: dict[str, Action] = {
    "next titles": "more", "answer the question": "question", "list wishes": "list", "undo": "undo", "start over": "reset",
    "help": "help", "goodbye": "quit",
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """How a line may begin. options: the texts that may follow, None where nothing does; means: what it asks for with one."""

    options: tuple[str, ...] | None
    means: Callable[[int], Edit | Wishes]


def heads(facets: Facets, titles: TitleWords, message: str, state: ChatState) -> dict[str, Head]:
    """The lines that may be written of a message."""
    found = _choices(facets) | _numbers(facets, message)
    mentions, words = _titles(titles, message, state)
    if mentions:
        names, meant = tuple(mentions), list(mentions.values())
        for name, field in (("like", "liked"), ("dislike", "disliked"), ("seen", "seen")):
            found[name] = Head(names, lambda place, field=field: Mark(meant[place], field))
        for column in facets.number_columns[:MAX_COLUMNS]:
            for way, smaller in zip(comparatives(facets, column), (True, False), strict=True):
                found[f"{way} than"] = Head(names, lambda place, c=column, s=smaller: Compare(c, s, meant[place]))
    if words:
        found["no titles with"] = Head(words, lambda place: Without(words[place]))
    if known := _known(facets, state):
        found["forget"] = Head(known, lambda place: ForgetTitles(known[place]))
    if state.shown:
        places = tuple(f"number {rank}" for rank in range(1, len(state.shown) + 1))
        found["explain"] = Head(places, lambda place: Wishes(action="explain", number=place + 1))
    found["surprise"] = Head(("yes", "no"), lambda place: Surprise(place == 0))
    counts = tuple(str(number) for number in range(1, 21))
    counts += tuple(
        dict.fromkeys(n for n in _said(message) if n not in counts and "." not in n and 20 < int(n) <= MAX_COUNT)
    )
    found["count"] = Head(counts, lambda place: Count(int(counts[place])))
    for name, action in _ACTIONS.items():
        question = message if action == "question" else ""
        found[name] = Head(None, lambda place, a=action, q=question: Wishes(action=a, question=q))
    return found


def wishes_of(lines: Sequence[Edit | Wishes]) -> Wishes:
    """All that was written, as one: of several actions the first holds."""
    actions = [line for line in lines if isinstance(line, Wishes)]
    edits = tuple(line for line in lines if not isinstance(line, Wishes))
    first = actions[0] if actions else Wishes()
    return Wishes(edits, first.action, first.number, first.question)


def leans(facets: Facets) -> list[Lean]:
    """Every value of the catalogue that a quality may speak of."""
    return [Lean(column, value) for column, values in listed(facets) for value in values]


def listed(facets: Facets) -> list[tuple[str, tuple[str, ...]]]:
    """Columns with the values that the form lists."""
    return [(c, values) for c, values in facets.choices.items() if len(values) <= MAX_VALUES][:MAX_COLUMNS]


def _choices(facets: Facets) -> dict[str, Head]:
    found: dict[str, Head] = {}
    for column, values in listed(facets):
        name = plain(column)
        kinds: dict[str, Callable[[str, str], Edit]] = {
            "more": lambda c, v: Lean(c, v),
            "less": lambda c, v: Lean(c, v, less=True),
            "only": lambda c, v: Require(c, (v,)),
            "also": lambda c, v: Require(c, (v,), also=True),
            "not": lambda c, v: Exclude(c, (v,)),
            "again": lambda c, v: Allow(c, v),
            "drop": lambda c, v: Drop(c, v),
        }
        for kind, make in kinds.items():
            found[f"{kind} {name}"] = Head(values, lambda place, m=make, c=column, v=values: m(c, v[place]))
        found[f"any {name}"] = Head(None, lambda place, c=column: ForgetColumn(c))
    return found


def _numbers(facets: Facets, message: str) -> dict[str, Head]:
    found: dict[str, Head] = {}
    said = _said(message)
    for column in facets.number_columns[:MAX_COLUMNS]:
        name, numbers = plain(column), tuple(dict.fromkeys([*_whole(facets, column), *said]))
        makes: dict[str, Callable[[str, float], Edit]] = {
            "from": lambda c, n: Bounds(c, low=n),
            "to": lambda c, n: Bounds(c, high=n),
        }
        if not facets.is_whole(column):
            makes |= {
                "over": lambda c, n: Bounds(c, low=n, open=True),
                "under": lambda c, n: Bounds(c, high=n, open=True),
            }
        for kind, make in makes.items() if numbers else ():
            found[f"{name} {kind}"] = Head(numbers, lambda place, m=make, c=column, n=numbers: m(c, float(n[place])))
        for way, smaller in zip(comparatives(facets, column), (True, False), strict=True):
            found[way] = Head(None, lambda place, c=column, s=smaller: Compare(c, s))
        found[f"any {name}"] = Head(None, lambda place, c=column: ForgetColumn(c))
    return found


def _whole(facets: Facets, column: str) -> list[str]:
    """All whole numbers between the least and the greatest of a column, where they are few; those said of decades, too."""
    if not facets.is_whole(column):
        return []
    numbers = facets.numbers(column)
    low, high = int(np.nanmin(numbers)), int(np.nanmax(numbers))
    return [str(number) for number in range(low, high + 1)] if high - low < _MAX_NUMBERS else []


def _said(message: str) -> list[str]:
    return list(dict.fromkeys(_NUMBER.findall(message)))


def _titles(titles: TitleWords, message: str, state: ChatState) -> tuple[dict[str, Mention], tuple[str, ...]]:
    """The titles that a message may name: spelt out in it, or by their number in the latest list, and "it"; and words of titles."""
    words, place = words_of(message), 0
    mentions: dict[str, Mention] = {}
    shared: list[str] = []
    while place < len(words) and len(mentions) < _MOST_NAMES:
        named = titles.at(message, words, place)
        part = None if named else titles.part_at(message, words, place, lambda word: len(word) < _SHORTEST_PART)
        for end, found in named[:1] or ([part] if part else []):
            if found.shared:
                shared.append(found.shared)
            else:
                mentions.setdefault(found.mention.text, found.mention)
            place = end - 1
        place += 1
    for rank, item_id in enumerate(state.shown, 1):
        mentions[f"number {rank}"] = Mention(f"number {rank}", (item_id,))
    latest = state.shown if len(state.shown) == 1 else state.liked[-1:]
    if latest:
        mentions["that one"] = Mention("that one", latest)
    return mentions, tuple(dict.fromkeys(shared))


def comparatives(facets: Facets, column: str) -> tuple[str, str]:
    """How smaller and greater numbers of a column are called: older and newer of years, cheaper and dearer of prices."""
    name = plain(column)
    first = {kind: one for one in reversed(facets.number_columns) if (kind := _kind(facets, one))}
    kind = _kind(facets, column)
    if kind is not None and first[kind] == column:
        return ("older", "newer") if kind == "year" else ("cheaper", "more expensive")
    return f"lower {name}", f"higher {name}"


def _kind(facets: Facets, column: str) -> str | None:
    if re.search("price|cost", column, re.IGNORECASE):
        return "price"
    numbers = facets.numbers(column)
    is_years = facets.is_whole(column) and np.nanmin(numbers) >= 1000 and np.nanmax(numbers) <= 2200
    return "year" if is_years else None


def _known(facets: Facets, state: ChatState) -> tuple[str, ...]:
    catalog = facets.catalog
    ids = list(dict.fromkeys([*state.liked, *state.disliked, *state.seen]))[-_MAX_NUMBERS:]
    titles = [catalog.title(item) for item in catalog.index(ids).tolist()] if ids else []
    return tuple(dict.fromkeys([*state.without, *titles]))


def plain(column: str) -> str:
    """A column's name within a line."""
    return " ".join(column.replace(":", " ").split())
