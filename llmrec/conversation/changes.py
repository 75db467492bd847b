"""How a state changes by what a message asks for: `changed` carries out edits one after another.

The rules are those of eval/phrasings/README.md, by their numbers there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from llmrec.conversation.edits import (
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
    Require,
    SetWhere,
    Surprise,
    Without,
)
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import MAX_COUNT, ChatState, Preference
from llmrec.data.title_search import normalised
from llmrec.recommenders.rules import Condition

LOWER, UPPER = (">=", ">"), ("<=", "<")


def changed(state: ChatState, edits: Sequence[Edit], facets: Facets) -> tuple[ChatState, list[str]]:
    """The state after these edits, and sentences about those that could not be carried out. Any change empties `shown`.

    Titles are taken as looked up (`Mention.item_ids`); a mention of nothing changes nothing. Columns and values must be the
    catalogue's.
    """
    after, notes = state, []
    asked_for: set[str] = (
        set()
    )  # columns of which this message asks for a value: the values of before are gone, its own stand together
    for edit in edits:
        match edit:
            case Mark(mention, field):
                after = _marked(after, mention.item_ids, field)
            case Without(words):
                after = replace(after, without=_with(after.without, words))
            case Require(column, values, also):
                after = _required(after, column, values, also, replaces=column not in asked_for)
                asked_for.add(column)
            case Exclude(column, values):
                after = _excluded(after, column, values)
            case Bounds():
                after = _bounded(after, edit, facets)
            case Compare():
                bounds = _compared(state, after, edit, facets)
                if isinstance(bounds, str):
                    notes.append(bounds)
                else:
                    after = _bounded(after, bounds, facets)
            case Lean(column, value, less, word):
                kept = [one for one in after.prefer if (one.column, one.value) != (column, value)]
                after = replace(after, prefer=(*kept, Preference(column, value, less, word)))
            case Allow(column, value):
                after = _released(after, column, value, "!=", less=True)
            case Drop(column, value):
                after = _released(after, column, value, "=", less=False)
            case ForgetColumn(column):
                after = replace(
                    after,
                    where=tuple(one for one in after.where if one.column != column),
                    prefer=tuple(one for one in after.prefer if one.column != column),
                )
            case ForgetTitles(words):
                after = _forgotten(after, words, facets)
            case SetWhere(where):
                after = replace(after, where=where)
            case Surprise(wanted):
                after = replace(after, surprise=wanted)
            case Count(number):
                after = replace(after, count=max(1, min(number, MAX_COUNT)))
    if after != state:
        after = replace(after, shown=())
    return after, notes


def _marked(state: ChatState, item_ids: Sequence[str], field: str) -> ChatState:
    """Rule 1 and 2: an item is in one list only, at its end; what is liked already stays where it is."""
    new = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in getattr(state, field)]
    lists = {name: [one for one in getattr(state, name) if one not in new] for name in ("liked", "disliked", "seen")}
    lists[field] += new
    return replace(state, **{name: tuple(ids) for name, ids in lists.items()})


def _with(texts: tuple[str, ...], text: str) -> tuple[str, ...]:
    return texts if text in texts else (*texts, text)


def _required(state: ChatState, column: str, values: tuple[str, ...], also: bool, *, replaces: bool) -> ChatState:
    """Rule 4: joins the column's last `=`, or stands instead of (`replaces`) or beside the others; the values leave `!=`."""
    state = _without_values(state, column, values, "!=")
    old = [one for one in state.where if (one.column, one.operator) == (column, "=")]
    if also and old:
        joined = replace(old[-1], values=tuple(dict.fromkeys((*old[-1].values, *values))))
        return replace(state, where=tuple(joined if one is old[-1] else one for one in state.where))
    kept = tuple(one for one in state.where if not (replaces and one in old))
    condition = Condition(column, "=", values)
    return replace(state, where=kept if condition in kept else (*kept, condition))


def _excluded(state: ChatState, column: str, values: tuple[str, ...]) -> ChatState:
    """Rule 4: joins the column's `!=`; the values leave `=`."""
    state = _without_values(state, column, values, "=")
    old = next((one for one in state.where if one.column == column and one.operator == "!="), None)
    known = () if old is None else old.values
    condition = Condition(column, "!=", tuple(dict.fromkeys((*known, *values))))
    return replace(state, where=(*(one for one in state.where if one is not old), condition))


def _without_values(state: ChatState, column: str, values: Sequence[str], operator: str) -> ChatState:
    """The conditions less these values; a condition without values goes."""
    left = []
    for one in state.where:
        if (one.column, one.operator) == (column, operator):
            kept = tuple(value for value in one.values if value not in values)
            left += [replace(one, values=kept)] if kept else []
        else:
            left.append(one)
    return replace(state, where=tuple(left))


def _released(state: ChatState, column: str, value: str, operator: str, *, less: bool) -> ChatState:
    """Rule 9: a value leaves conditions of one operator and preferences of one direction."""
    state = _without_values(state, column, (value,), operator)
    prefer = tuple(one for one in state.prefer if (one.column, one.value, one.less) != (column, value, less))
    return replace(state, prefer=prefer)


def _bounded(state: ChatState, bounds: Bounds, facets: Facets) -> ChatState:
    """Rules 5 and 6: a bound replaces the old one of its side; the other goes where nothing would be left between them."""
    low, high = _bound(bounds, bounds.low, True, facets), _bound(bounds, bounds.high, False, facets)
    kept = []
    for one in state.where:
        side = "low" if one.operator in LOWER else "high" if one.operator in UPPER else None
        if one.column == bounds.column and side is not None:
            is_replaced = bounds.both or (low if side == "low" else high) is not None
            other = high if side == "low" else low
            if is_replaced or (other is not None and not _overlap(one, other)):
                continue
        kept.append(one)
    return replace(state, where=(*kept, *(one for one in (low, high) if one is not None)))


def _bound(bounds: Bounds, number: float | None, is_low: bool, facets: Facets) -> Condition | None:
    """One bound as a condition; of whole numbers with >= and <=."""
    if number is None:
        return None
    operator = (">" if is_low else "<") + ("" if bounds.open else "=")
    if facets.is_whole(bounds.column):
        if bounds.open:
            number = math.floor(number) + 1 if is_low else math.ceil(number) - 1
        number, operator = (math.ceil(number), ">=") if is_low else (math.floor(number), "<=")
    return Condition(bounds.column, operator, (f"{number:.10g}",))


def _overlap(one: Condition, other: Condition) -> bool:
    """Whether a number passes a lower and an upper bound."""
    low, high = (one, other) if one.operator in LOWER else (other, one)
    small, large = float(low.values[0]), float(high.values[0])
    return small < large or (small == large and (low.operator, high.operator) == (">=", "<="))


def _compared(before: ChatState, state: ChatState, edit: Compare, facets: Facets) -> Bounds | str:
    """Rule 6: the bound beyond the reference; a sentence where there is none."""
    reference = None
    is_low = not edit.smaller
    if edit.than is not None:
        reference = _middle(edit.than.item_ids, edit.column, facets)
    if reference is None:
        side = LOWER if edit.smaller else UPPER
        bounds = [one for one in state.where if one.column == edit.column and one.operator in side]
        reference = float(bounds[0].values[0]) if bounds else None
    for item_ids in (before.shown, before.liked):
        if reference is None:
            reference = _middle(item_ids, edit.column, facets)
    if reference is None:
        way = "smaller" if edit.smaller else "greater"
        return f"There is no title yet whose {edit.column} could be compared: name one, or a number ({way} than what?)."
    return Bounds(edit.column, reference if is_low else None, None if is_low else reference, open=True)


def _middle(item_ids: Sequence[str], column: str, facets: Facets) -> float | None:
    """The lower median of some items' numbers."""
    numbers = sorted(n for one in item_ids if (n := facets.number_of(column, one)) is not None)
    return numbers[(len(numbers) - 1) // 2] if numbers else None


def _forgotten(state: ChatState, words: str, facets: Facets) -> ChatState:
    """Rule 9: titles with these words leave the lists, and these words leave `without`."""
    wanted = f" {normalised(words)} "

    def left(item_ids: tuple[str, ...]) -> tuple[str, ...]:
        items = facets.catalog.index(item_ids).tolist()
        titles = [f" {normalised(facets.catalog.title(item))} " for item in items]
        return tuple(one for one, title in zip(item_ids, titles, strict=True) if wanted not in title)

    return replace(
        state,
        liked=left(state.liked),
        disliked=left(state.disliked),
        seen=left(state.seen),
        without=tuple(one for one in state.without if wanted not in f" {normalised(one)} "),
    )
