"""Steering: one user's wishes that lean on a list without ruling out anything but what the user dislikes.

| wish | what it does to the relevance of an item, 0 (the list's worst) to 1 (its best) |
|---|---|
| `disliked` | - DISLIKED times its largest cosine, where positive, with a disliked item's vector; the disliked itself never comes |
| `prefer`, `avoid` | + LEAN, - LEAN for each of these that the catalogue says of it |
| `prefer`, rare | what lifts the best items that have it into the list until a quarter of it does, if LEAN alone does not |
| `surprise` | - SURPRISE times its largest cosine, where positive, with one of the usual k items; these come after all others |

Relevance is that of diversity (`diversity.scaled_relevance`) over the longer list of `reranking`; what stands below is below 0.

Letters: U requests, P items of the longer list, E disliked items, M items that have a value, D width of the items' vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.arguments import checked_flag, checked_ids, checked_rows
from llmrec.errors import RequestError
from llmrec.recommenders.requests import Ranking
from llmrec.recommenders.rules import Condition, ItemRules, is_among

DISLIKED = 1.0
LEAN = 0.5
SURPRISE = 1.0
LEAST = 0.25  # of a list: the share that a preferred value has at least, where there are as many items
_ABOVE = 1e-6  # of relevance: enough to stand above an equal


@dataclass(frozen=True)
class Steering:
    """What one user wishes of a list. disliked: item ids. prefer, avoid: conditions with "=", what ranks higher and lower.

    surprise: whether the list should be unlike the usual one.
    """

    disliked: tuple[str, ...] = ()
    prefer: tuple[Condition, ...] = ()
    avoid: tuple[Condition, ...] = ()
    surprise: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "disliked", tuple(checked_ids(self.disliked, "the disliked items")))
        object.__setattr__(self, "surprise", checked_flag(self.surprise, "surprise"))
        for name in ("prefer", "avoid"):
            wanted = getattr(self, name)
            if not isinstance(wanted, list | tuple) or not all(_is_value(condition) for condition in wanted):
                raise RequestError(
                    f"{name} should be a tuple of conditions with '=', such as (Condition.parse('genres=Comedy'),), but it is "
                    f"{str(wanted)[:80]}. What must hold goes into where."
                )
            object.__setattr__(self, name, tuple(dict.fromkeys(wanted)))

    def __bool__(self) -> bool:
        return self != Steering()


@dataclass(frozen=True, eq=False)
class SteeredItems:
    """A `Steering` as items of one catalogue. disliked: int32 (E,); prefer, avoid: for each condition int32 (M,), ascending."""

    disliked: np.ndarray
    prefer: tuple[np.ndarray, ...]
    avoid: tuple[np.ndarray, ...]
    surprise: bool

    @property
    def needs_vectors(self) -> bool:
        """Whether likeness of items is asked for."""
        return self.surprise or len(self.disliked) > 0


def steered_items(
    rules: ItemRules, steering: Sequence[Steering | None] | None, num_requests: int
) -> list[SteeredItems | None]:
    """The items of each request's steering, None where it wishes nothing.

    Raises RequestError for what is no steering, and for ids, columns and values that the catalogue lacks: of several requests it says
    which.
    """
    if steering is None:
        return [None] * num_requests
    asked = checked_rows(steering, "the steering")
    if len(asked) != num_requests:
        raise RequestError(
            f"steering should have one entry for each of the {num_requests} histories, not {len(asked)}."
        )
    found: list[SteeredItems | None] = []
    for row, own in enumerate(asked):
        if own is not None and not isinstance(own, Steering):
            raise RequestError(f"steering should be Steering(...) or None, but it is {own!r:.60}.")
        try:
            found.append(_items(rules, own) if own else None)
        except RequestError as error:
            if num_requests == 1:
                raise
            raise RequestError(f"the steering of history {row} (counted from 0): {error}") from error
    return found


def steered_relevance(
    relevance: np.ndarray,
    listed: Ranking,
    k: int,
    steering: Sequence[SteeredItems | None],
    vectors: np.ndarray | None,
    item_vectors: Callable[[np.ndarray], np.ndarray] | None,
) -> np.ndarray:
    """The relevance of each listed item with what its user wishes: float64 (U, P).

    relevance: float64 (U, P). listed: items int32 (U, P), the ranker's order, of which the first k are the usual list. vectors: float
    (U, P, D), and item_vectors (see `Recommender`): None where no steering `needs_vectors`.
    """
    steered = relevance.copy()
    for row, own in enumerate(steering):
        if own is None:
            continue
        items = listed.items[row]
        for having in own.prefer:
            steered[row] += LEAN * is_among(items, having)
        for having in own.avoid:
            steered[row] -= LEAN * is_among(items, having)
        if len(own.disliked):
            steered[row] -= DISLIKED * likeness(vectors[row], item_vectors(own.disliked[None])[0])
        if own.surprise:
            steered[row] -= SURPRISE * likeness(vectors[row], vectors[row, :k][items[:k] >= 0])
            steered[row, :k] -= 1 + np.ptp(steered[row])
        _lift(steered[row], items, k, own.prefer)
    return steered


def _lift(relevance: np.ndarray, items: np.ndarray, k: int, prefer: Sequence[np.ndarray]) -> None:
    """Brings the best items of each preferred value into the first k, LEAST of these; relevance, float64 (P,), is changed."""
    wanted, is_item = math.ceil(LEAST * k), items >= 0
    for having in prefer * len(prefer):  # again, since one value's items may push out another's
        among = is_item & is_among(items, having)
        best = np.sort(relevance[among])[::-1][:wanted]
        passed = np.sort(relevance[is_item & ~among])[::-1][k - len(best) :][
            :1
        ]  # what the last of these must stand above
        if len(best) and len(passed) and best[-1] <= passed[0]:
            relevance[among] += passed[0] - best[-1] + _ABOVE


def likeness(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest cosine of each vector with one of the others, 0 where none is positive: float64 (P,), in [0, 1].

    vectors: float (P, D); others: float (E, D). A zero vector is like nothing.
    """
    return (_unit(vectors) @ _unit(others).T).max(axis=1, initial=0)


def _items(rules: ItemRules, steering: Steering) -> SteeredItems:
    prefer, avoid = (
        tuple(rules.choice(where=[condition]).items for condition in conditions)
        for conditions in (steering.prefer, steering.avoid)
    )
    disliked = np.unique(rules.catalog.index(steering.disliked)).astype(np.int32)
    return SteeredItems(disliked, prefer, avoid, steering.surprise)


def _is_value(condition: object) -> bool:
    return isinstance(condition, Condition) and condition.operator == "="


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
