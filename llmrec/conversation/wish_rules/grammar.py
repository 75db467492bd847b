"""What groups of terms ask for, as edits: the rules of eval/phrasings/README.md, by their numbers there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.types as types

from llmrec.conversation.edits import (
    Allow,
    Bounds,
    Compare,
    Drop,
    Edit,
    Exclude,
    ForgetColumn,
    ForgetTitles,
    Lean,
    Mark,
    Mention,
    Require,
    Without,
)
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_rules.objects import Group, Object
from llmrec.conversation.wish_rules.terms import (
    Adjective,
    ColumnName,
    Comparative,
    Limits,
    Quality,
    Titles,
    Value,
)
from llmrec.conversation.wish_rules.title_words import TitleWords

_FIELDS = {"like": "liked", "more": "liked", "dislike": "disliked", "less": "disliked", "seen": "seen"}


class Grammar:
    """Turns groups into edits over one catalogue."""

    def __init__(self, facets: Facets, titles: TitleWords) -> None:
        self.facets, self.titles = facets, titles

    def edits(self, groups: Sequence[Group], state: ChatState) -> list[Edit]:
        """The edits in the order of the message; what compares takes the title that the message names (rule 6)."""
        found: list[Edit] = []
        for group in groups:
            found += self._of_group(group, state)
        found = list(dict.fromkeys(found))
        return [
            replace(one, than=_named(found)) if isinstance(one, Compare) and one.than is None else one for one in found
        ]

    def _of_group(self, group: Group, state: ChatState) -> list[Edit]:
        mode = group.mode
        if mode == "ignore":
            return []
        found: list[Edit] = []
        if mode in ("not", "dislike") or (mode in ("", "any", "seen", "like", "leave") and "bad" in group.flags):
            found += self._excluded(group)
        elif mode not in ("more", "less", "forget", "drop", "allow"):
            found += self._required(group, state)
        for one in group.objects:
            found += self._of_object(one, group, state)
        return found

    def _of_object(self, one: Object, group: Group, state: ChatState) -> list[Edit]:
        meaning, mode, flags = one.meaning, group.mode, group.flags
        is_lifted = mode in ("forget", "drop") or bool(flags & {"nomatter", "unneeded"})
        is_refused = mode in ("not", "dislike") or "bad" in flags
        match meaning:
            case Titles():
                return self._titles(meaning, group)
            case Quality(column, value) | Value(column, value) as named:
                if mode == "forget":
                    return [Allow(column, value), Drop(column, value), *self._forgotten_words(named)]
                if is_lifted:
                    return [Drop(column, value)]
                if mode == "allow":
                    return self._allowed(named, group, state)
                if mode in ("more", "less") or isinstance(named, Quality):
                    return [
                        Lean(
                            column,
                            value,
                            mode == "less" or is_refused,
                            named.word if isinstance(named, Quality) else "",
                        )
                    ]
            case ColumnName(column):
                if is_lifted or mode in ("any", "not"):
                    return [ForgetColumn(column)]
            case Limits(bounds):
                if is_lifted:
                    return [ForgetColumn(bounds.column)]
                return _refused(bounds, self.facets) if is_refused else [bounds]
            case Comparative(column, smaller):
                if is_lifted:
                    return [ForgetColumn(column)]
                if mode == "not" and one.than is not None and len(one.than.mention.item_ids) == 1:
                    number = self.facets.number_of(column, one.than.mention.item_ids[0])
                    return [Bounds(column, **{"low" if smaller else "high": number})]
                is_turned = mode in ("not", "less")
                return [Compare(column, smaller != is_turned, None if one.than is None else one.than.mention)]
            case Adjective(column, small, bounds):
                if is_lifted:
                    return [ForgetColumn(column)]
                if mode in ("more", "less"):
                    return [Compare(column, small == (mode == "more"), None if one.than is None else one.than.mention)]
                if bounds is not None:
                    return _refused(bounds, self.facets) if is_refused else [bounds]
                return [Compare(column, not small)]
        return []

    def _titles(self, titles: Titles, group: Group) -> list[Edit]:
        mention, mode = titles.mention, group.mode
        if mode in ("drop", "unseen") or "aside" in group.flags:
            return []
        if mode == "forget" or mode == "allow":
            names = (
                [mention.text] if not titles.is_reference else [self._title(item_id) for item_id in mention.item_ids]
            )
            return [ForgetTitles(name) for name in names if name]
        if titles.is_reference and not mention.item_ids and titles.is_weak:
            return []
        if mode == "not":
            shared = titles.shared or ("" if titles.is_reference else self.titles.shared(titles))
            return [Without(shared)] if shared else [Mark(mention, "disliked")]
        field = _FIELDS.get(mode, "liked")
        found: list[Edit] = [Mark(mention, field)]
        if "bad" in group.flags and field != "disliked":
            found.append(Mark(mention, "disliked"))
        elif "good" in group.flags and field == "seen":
            found.append(Mark(mention, "liked"))
        return found[-1:] if mode == "" else found

    def _title(self, item_id: str) -> str:
        return self.facets.catalog.title(int(self.facets.catalog.index([item_id])[0]))

    def _forgotten_words(self, named: Quality | Value) -> list[Edit]:
        """A brand's name is in titles, too."""
        has_words = isinstance(named, Value) and self.titles.are_in_titles(named.value)
        return [ForgetTitles(named.value)] if has_words else []

    def _allowed(self, named: Quality | Value, group: Group, state: ChatState) -> list[Edit]:
        if isinstance(named, Quality) or "again" in group.flags or _is_kept_out(named, state):
            return [Allow(named.column, named.value)]
        return [Require(named.column, (named.value,), also=True)]

    def _excluded(self, group: Group) -> list[Edit]:
        """Rule 4: one condition per column."""
        values: dict[str, list[str]] = {}
        for one in group.objects:
            if isinstance(one.meaning, Value):
                values.setdefault(one.meaning.column, []).append(one.meaning.value)
        return [Exclude(column, tuple(dict.fromkeys(names))) for column, names in values.items()]

    def _required(self, group: Group, state: ChatState) -> list[Edit]:
        """Rule 4: values joined by "or" are one condition, others stand side by side. Values that are fine again are only allowed."""
        if group.flags & {"nomatter", "unneeded"}:
            return []
        found: list[Edit] = []
        runs: list[list[Value]] = []
        for place, one in enumerate(group.objects):
            if not isinstance(one.meaning, Value):
                continue
            is_fine = bool(group.flags & {"again", "fine", "good"})
            if is_fine and (
                _is_kept_out(one.meaning, state) or {"again", "fine"} <= group.flags or {"again", "good"} <= group.flags
            ):
                found.append(Allow(one.meaning.column, one.meaning.value))
            elif runs and self._joins(runs[-1][-1], one, group.objects[place:]):
                runs[-1].append(one.meaning)
            else:
                runs.append([one.meaning])
        for run in runs:
            column = run[0].column
            has_old = any((one.column, one.operator) == (column, "=") for one in state.where)
            is_one = (
                sum(other[0].column == column for other in runs) == 1
            )  # "a western that is a comedy, too" has two of its own
            also = has_old and is_one and (group.is_also or "fine" in group.flags)
            found.append(Require(column, tuple(dict.fromkeys(value.value for value in run)), also))
        return found

    def _joins(self, last: Value, one: Object, rest: Sequence[Object]) -> bool:
        """Whether a value joins the one before it in one condition."""
        assert isinstance(one.meaning, Value)
        if last.column != one.meaning.column:
            return False
        if not types.is_list(self.facets.catalog.table[last.column].type):
            return True  # no title has two of them
        joiners = [later.joiner for later in rest if later.joiner and later.joiner != "comma"]
        joiner = one.joiner if one.joiner != "comma" or not joiners else joiners[0]
        return joiner == "or" or (joiner in ("and", "comma") and last.is_many and one.meaning.is_many)


def _is_kept_out(value: Value, state: ChatState) -> bool:
    """Whether the state excludes a value or ranks it lower."""
    excluded = any(
        one.column == value.column and one.operator == "!=" and value.value in one.values for one in state.where
    )
    return excluded or any(
        (one.column, one.value, one.less) == (value.column, value.value, True) for one in state.prefer
    )


def unspeakable(group: Group) -> list[Object]:
    """Objects that a group refuses and no condition can: what is not between two numbers."""
    is_refused = group.mode in ("not", "dislike") or "bad" in group.flags
    ranges = [
        one
        for one in group.objects
        if isinstance(one.meaning, Limits) and None not in (one.meaning.bounds.low, one.meaning.bounds.high)
    ]
    return ranges if is_refused else []


def _refused(bounds: Bounds, facets: Facets) -> list[Edit]:
    """ "nothing before 1980", "not over 20": the other side, up to the number itself. What is not between two numbers has no bounds."""
    if bounds.low is not None and bounds.high is not None:
        return []
    if facets.is_whole(bounds.column) and not bounds.open:  # "nothing old", 1969 at most: from 1970
        low, high = bounds.low, bounds.high
        return [Bounds(bounds.column, None if high is None else high + 1, None if low is None else low - 1)]
    return [Bounds(bounds.column, bounds.high, bounds.low, open=not bounds.open)]


def _named(edits: Sequence[Edit]) -> Mention | None:
    """The title that a comparison of the message is with: one that is liked before one that is not."""
    marks = [one for one in edits if isinstance(one, Mark) and one.mention.item_ids]
    liked = [one for one in marks if one.field == "liked"]
    return (liked or marks)[-1].mention if marks else None
