"""A state in words: what a message changed in it, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from llmrec.conversation.facets import Facets
from llmrec.conversation.labels import Labels
from llmrec.conversation.state import COUNT, ChatState, Preference
from llmrec.recommenders.rules import Condition
from llmrec.terminal import printable

_VALUES_TOLD = 5  # of a column
_NAMED = 10  # titles of one change
_FIELDS = {"liked": "you like", "disliked": "you do not like", "seen": "you know"}


def told_change(before: ChatState, after: ChatState, labels: Labels) -> str:
    """What is new in a state, and what is gone: "year 1990 to 1999, not Horror, lighter: Comedy". "" where nothing is."""
    parts = []
    for name, words in _FIELDS.items():
        if new := [one for one in getattr(after, name) if one not in getattr(before, name)]:
            parts.append(f"{words} {_listed(labels.of_ids(new))}")
    kept = {one for name in _FIELDS for one in getattr(after, name)}
    if gone := [one for name in _FIELDS for one in getattr(before, name) if one not in kept]:
        parts.append(f"forgotten: {_listed(labels.of_ids(gone))}")
    parts += [_without(one) for one in after.without if one not in before.without]
    parts += [f"titles with '{printable(one)}' again" for one in before.without if one not in after.without]
    parts += _changed_conditions(before.where, after.where)
    said = {(one, one.word) for one in before.prefer}  # another word for the same value is said again
    parts += [_leaning(one) for one in after.prefer if (one, one.word) not in said]
    leant = {(one.column, one.value) for one in after.prefer}
    parts += [f"no longer {_leaning(one)}" for one in before.prefer if (one.column, one.value) not in leant]
    if after.surprise != before.surprise:
        parts.append("a surprise" if after.surprise else "no surprises")
    if after.count != before.count:
        parts.append(_count(after.count))
    return ", ".join(parts)


def told_state(state: ChatState, labels: Labels, facets: Facets) -> list[str]:
    """All of a state, a line for each kind of wish, and how to correct it."""
    lines = []
    for name, words in _FIELDS.items():
        if item_ids := getattr(state, name):
            lines.append(f"{words[0].upper()}{words[1:]}: {'; '.join(labels.of_ids(item_ids))}")
    if not state.liked:
        lines.insert(0, "You like: nothing yet")
    if told := told_rules(state):
        lines.append(f"Only: {', '.join(told)}")
    if told := [_leaning(one) for one in state.prefer] + (["a surprise"] if state.surprise else []):
        lines.append(f"Rather: {', '.join(told)}")
    if state.count != COUNT:
        lines.append(f"A list: {_count(state.count)}")
    said = "".join(f' or "{example}"' for example in _corrections(state, facets))
    lines.append(f"To correct it: undo, reset{said}.")
    if columns := _columns(facets):
        lines.append(f"The catalogue tells of each title: {'; '.join(columns)}.")
    return lines


def _corrections(state: ChatState, facets: Facets) -> list[str]:
    """What could be said to take parts of the state back, an example of each kind that it has."""
    examples = []
    if state.liked:
        (item,) = facets.catalog.index(state.liked[-1:]).tolist()
        examples.append(f"forget {printable(facets.catalog.title(item))}")
    for operator, form in (("!=", "{} is fine again"), ("=", "doesn't have to be {}")):
        values = [one.values[0] for one in state.where if one.operator == operator]
        examples += [form.format(printable(value)) for value in values[:1]]
    bounded = [one.column for one in state.where if one.operator not in ("=", "!=")]
    return [*examples, *(f"any {printable(column)}" for column in bounded[:1])]


def told_rules(state: ChatState) -> list[str]:
    """What rules titles out, in words, each a wish of its own."""
    return [*(_without(one) for one in state.without), *told_where(state.where)]


def looser_states(state: ChatState) -> list[tuple[str, ChatState]]:
    """Each of the wishes of `told_rules`, and the state without it."""
    looser = [
        (_without(one), replace(state, without=tuple(kept for kept in state.without if kept != one)))
        for one in state.without
    ]
    for told, conditions in _told_where(state.where):
        looser.append((told, replace(state, where=tuple(kept for kept in state.where if kept not in conditions))))
    return looser


def told_where(where: Sequence[Condition]) -> list[str]:
    """Conditions in words, those of one column together: "year 1990 to 1999", "Comedy or Drama", "not Horror"."""
    return [told for told, _ in _told_where(where)]


def _told_where(where: Sequence[Condition]) -> list[tuple[str, list[Condition]]]:
    told = []
    for column, of_column in groupby(sorted(where, key=lambda one: _first(where, one)), key=lambda one: one.column):
        conditions = list(of_column)
        bounds = [one for one in conditions if one.operator not in ("=", "!=")]
        told += [(_values(one), [one]) for one in conditions if one not in bounds]
        told += [(_bounds(column, bounds), bounds)] if bounds else []
    return told


def told_wishes(state: ChatState) -> str:
    """The wishes without titles, for a prompt that has a place for them; "" where there are none."""
    parts = [
        *told_where(state.where),
        *(_leaning(one) for one in state.prefer),
        *(["a surprise"] if state.surprise else []),
    ]
    return ", ".join(parts)


def _first(where: Sequence[Condition], condition: Condition) -> int:
    """The place of the first condition on the same column."""
    return next(place for place, one in enumerate(where) if one.column == condition.column)


def _changed_conditions(before: Sequence[Condition], after: Sequence[Condition]) -> list[str]:
    """Of each column what is new, and what is gone without anything in its place."""
    told = []
    for column in dict.fromkeys(one.column for one in (*after, *before)):
        old = [one for one in before if one.column == column]
        new = [one for one in after if one.column == column]
        fresh, gone = _fresh(new, old), _told_where(_gone(old, new))
        told += told_where(fresh)
        if len(gone) > 1 and not new:
            told.append(f"any {printable(column)}")
        else:
            told += [_without_condition(column, conditions) for _, conditions in gone]
    return told


def _gone(old: Sequence[Condition], new: Sequence[Condition]) -> list[Condition]:
    """What held, and for which nothing else holds now: another value, another bound, or the contrary."""
    gone, values = [], {value for one in new for value in one.values}
    for one in _fresh(old, new):
        is_bound = one.operator not in ("=", "!=")
        if any(
            other.operator == one.operator or (is_bound and other.operator not in ("=", "!=")) for other in new
        ) and (one.operator != "!="):
            continue
        left = tuple(value for value in one.values if is_bound or value not in values)
        gone += [replace(one, values=left)] if left else []
    return gone


def _without_condition(column: str, conditions: Sequence[Condition]) -> str:
    """A condition that holds no more, in words."""
    (first, *_) = conditions
    if first.operator == "!=":
        return f"{_values(replace(first, operator='='))} again"
    return f"no longer {_values(first)}" if first.operator == "=" else f"any {printable(column)}"


def _fresh(conditions: Sequence[Condition], known: Sequence[Condition]) -> list[Condition]:
    """The conditions that are not known. Of what excludes, the values that were not excluded; bounds of a column are one thing."""
    excluded = {value for one in known if one.operator == "!=" for value in one.values}
    bounds = [one for one in conditions if one.operator not in ("=", "!=")]
    same_bounds = set(bounds) == {one for one in known if one.operator not in ("=", "!=")}
    fresh = []
    for one in conditions:
        if one.operator == "!=":
            values = tuple(value for value in one.values if value not in excluded)
            fresh += [Condition(one.column, "!=", values)] if values else []
        elif one in bounds:
            fresh += [] if same_bounds else [one]
        elif one not in known:
            fresh.append(one)
    return fresh


def _values(condition: Condition) -> str:
    values = [printable(value) for value in condition.values]
    named = f"{printable(condition.column)} " if any(value.isdecimal() for value in values) else ""
    return f"not {named}{' or '.join(values)}" if condition.operator == "!=" else f"{named}{' or '.join(values)}"


_LIMITS = {">=": "from {}", ">": "over {}", "<=": "up to {}", "<": "under {}"}


def _bounds(column: str, bounds: Sequence[Condition]) -> str:
    name = printable(column)
    found = {one.operator: one.values[0] for one in bounds}
    if set(found) == {">=", "<="} and len(bounds) == 2:
        low, high = found[">="], found["<="]
        return f"{name} {low}" if low == high else f"{name} {low} to {high}"
    return f"{name} {' and '.join(_LIMITS[one.operator].format(one.values[0]) for one in bounds)}"


def _leaning(preference: Preference) -> str:
    value = printable(preference.value)
    if preference.word:
        return f"{printable(preference.word)}: {'less ' if preference.less else ''}{value}"
    return f"{'less' if preference.less else 'more'} {value}"


def _without(words: str) -> str:
    return f"no title with '{printable(words)}'"


def _columns(facets: Facets) -> list[str]:
    """What wishes can be about: columns with their values, and with the ends of their numbers."""
    told = []
    for name, values in facets.choices.items():
        shown = ", ".join(map(printable, values[:_VALUES_TOLD])) + (", ..." if len(values) > _VALUES_TOLD else "")
        told.append(f"{printable(name)} ({shown})")
    for name in facets.number_columns:
        low, high = np.nanmin(facets.numbers(name)), np.nanmax(facets.numbers(name))
        told.append(f"{printable(name)} ({low:.10g} to {high:.10g})")
    return told


def _count(count: int) -> str:
    return "one title" if count == 1 else f"{count} titles"


def _listed(labels: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"; of many the first."""
    if len(labels) > _NAMED:
        labels = [*labels[:_NAMED], f"{len(labels) - _NAMED} more"]
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)
