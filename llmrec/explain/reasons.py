"""One sentence of reason for each title of a list, which says no more than was measured; all of them in one batch of scores.

| measured | said |
|---|---|
| the score falls without a title of the history, and without all | because you liked that title; of several the one that costs most |
| it falls without all of the history only | that what you liked speaks for it together |
| it falls without neither | that its score is no lower without what you liked |
| the history is empty | that nothing you like is known yet, or the preferred values alone |

With it come values that the item has in common with the title that is named, and the preferred values that it has. A fall is a
property of the recommender, not a cause in the world.

Letters: H history items that are left out, k titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.arguments import checked_history, checked_ids
from llmrec.data.catalog import Catalog
from llmrec.data.reading import shortened
from llmrec.errors import RequestError
from llmrec.explain.evidence import Influence, Recommends, SharedValue, shared_values, title_of, values_of, without_each
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import Steering
from llmrec.terminal import printable

LEFT_OUT = (
    10  # of a longer history, the latest items that are left out in turn: a prompt each (docs/chat.md has the cost)
)
_NAMED = 2  # values in common that a sentence names
_ROUNDING = 1e-4  # of a score's size: a smaller fall may be arithmetic in another order


@dataclass(frozen=True)
class Reason:
    """Why a title stands in a list.

    text: one sentence, without control characters. influence: the title that `text` says it is because of, its drop above 0, or None
    where the measurement names none. shared: the values in common that `text` names. wished: the preferences that it meets.
    """

    item_id: str
    text: str
    influence: Influence | None
    shared: tuple[SharedValue, ...]
    wished: tuple[Condition, ...]


def reasons(
    recommender: Recommends,
    history: Sequence[str],
    item_ids: Sequence[str],
    *,
    steering: Steering | None = None,
    instruction: str | None = None,
) -> list[Reason]:
    """A reason for each title of a list that the recommender gave for this history, in their order.

    history: item ids, oldest first; none for a new user. item_ids: k of them. steering: what the list was steered by. One call of
    `score_batch`: the k titles for the history, for none, and for the history without each of its latest LEFT_OUT different items,
    H + 2 histories; older ones are named by no sentence.

    Raises RequestError for ids that are not in the catalogue.
    """
    history, item_ids = list(checked_history(history)), list(checked_ids(item_ids, "the titles"))
    if steering is not None and not isinstance(steering, Steering):
        raise RequestError(f"steering should be Steering(...) or None, but it is {steering!r:.60}.")
    catalog = recommender.catalog
    catalog.index([*history, *item_ids])
    if not item_ids:
        return []
    falls = _falls(recommender, history, item_ids, instruction) if history else [([], 0.0)] * len(item_ids)
    different = list(dict.fromkeys(history))
    shares: dict[tuple[str, str], float] = {}
    found = []
    for item_id, (influences, whole) in zip(item_ids, falls, strict=True):
        wished = tuple(one for one in (steering.prefer if steering else ()) if _has(catalog, item_id, one))
        others = [other for other in different if other != item_id]
        speaks = whole > 0 and influences and influences[0].drop > 0
        influence = influences[0] if speaks else None
        alike = shared_values(catalog, [influence.item_id] if influence else others, item_id, shares)
        shared = tuple(one for one in alike if one.titles[0] == alike[0].titles[0])[:_NAMED]
        text = _sentence(wished, influence, shared, whole, bool(history))
        found.append(Reason(item_id, text, influence, shared, wished))
    return found


def _falls(
    recommender: Recommends, history: list[str], item_ids: list[str], instruction: str | None
) -> list[tuple[list[Influence], float]]:
    """For each title what its score loses without each history item, the most first, and what it loses without all of them.

    A loss within rounding is 0. A title that is in the history is no reason for itself.
    """
    left_out, without = without_each(history, LEFT_OUT)
    histories = [history, [], *without]
    scores = recommender.score_batch(
        histories,
        [item_ids] * len(histories),
        instructions=None if instruction is None else [instruction] * len(histories),
    )
    titles = {dropped: title_of(recommender.catalog, dropped) for dropped in left_out}
    found = []
    for item_id, score, empty, *others in zip(item_ids, *scores, strict=True):
        influences = [
            Influence(dropped, titles[dropped], _fall(score, other))
            for dropped, other in zip(left_out, others, strict=True)
            if dropped != item_id
        ]
        found.append((sorted(influences, key=lambda influence: -influence.drop), _fall(score, empty)))
    return found


def _fall(score: float, without: float) -> float:
    fall = score - without
    return fall if abs(fall) > _ROUNDING * max(abs(score), abs(without)) else 0.0


def _sentence(
    wished: Sequence[Condition],
    influence: Influence | None,
    shared: Sequence[SharedValue],
    whole: float,
    has_history: bool,
) -> str:
    common = f"{_listed(shared)} in common" if shared else ""
    if influence is not None:
        why = f"because you liked {_name(influence.title)}" + (f", with {common}" if common else "")
    elif not has_history:
        why = "" if wished else "nothing you like is known yet"
    else:
        why = (
            "what you liked speaks for it together, no title alone"
            if whole > 0
            else "its score is no lower without what you liked"
        )
        why += f"; it has {common} with {_name(shared[0].titles[0])}" if common else ""
    asked = f"{' and '.join(dict.fromkeys(_words(one) for one in wished))}, as you asked" if wished else ""
    text = "; ".join(part for part in (asked, why) if part)
    return f"{text[0].upper()}{text[1:]}."


def _words(condition: Condition) -> str:
    values = " or ".join(_name(value) for value in condition.values)
    return f"{_name(condition.column)} {values}" if values.isdecimal() else values


def _name(text: str) -> str:
    return shortened(printable(text))


def _listed(shared: Sequence[SharedValue]) -> str:
    """ "genres Crime and Drama", "genres Crime and year 1996"."""
    columns = [one.column for one in shared]
    return " and ".join(
        f"{_name(one.column)} {_name(one.value)}" if one.column not in columns[:place] else _name(one.value)
        for place, one in enumerate(sorted(shared, key=lambda one: columns.index(one.column)))
    )


def _has(catalog: Catalog, item_id: str, condition: Condition) -> bool:
    """Whether the catalogue says so of the item, read as a filter is."""
    (item,) = catalog.index([item_id]).tolist()
    columns = [name for name in catalog.table.column_names if name.lower() == condition.column.lower()]
    wanted = {value.lower() for value in condition.values}
    return any(value.lower() in wanted for name in columns for value in values_of(catalog, item, name))
