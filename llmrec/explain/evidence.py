"""What can be measured about why a recommender ranks an item where it does: never what a language model says of it.

A history item matters as much as the item's score falls when it is left out, with everything else as it was. That is the
recommender's own scores, for any ranker; it is not a cause in the world, and items that say the same cover for each other.

Letters: H history items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow.compute as pc
import pyarrow.types as types

from llmrec.arguments import checked_history, checked_ids
from llmrec.data.catalog import Catalog
from llmrec.errors import RequestError

RANKS = 100  # ranks that are searched for the item
LEFT_OUT = 50  # of a longer history, the latest items that are left out in turn
SHARED = 8  # values in common at most
_VALUE_CHARACTERS = 60  # longer texts are descriptions, which are equal by accident only


class Recommends(Protocol):
    """What can be measured: `llmrec.Recommender` and anything that answers as it does."""

    catalog: Catalog

    def recommend(
        self, history: Sequence[str], k: int = ..., *, instruction: str | None = ...
    ) -> Sequence[Recommended]: ...

    def score_batch(
        self,
        histories: Sequence[Sequence[str]],
        candidates: Sequence[Sequence[str]],
        *,
        instructions: Sequence[str] | None = ...,
    ) -> list[list[float]]: ...


class Recommended(Protocol):
    """One item of a list."""

    item_id: str


@dataclass(frozen=True)
class Influence:
    """A history item and how much the score falls without it: above 0 it speaks for the item, below 0 against it."""

    item_id: str
    title: str
    drop: float


@dataclass(frozen=True)
class SharedValue:
    """What a column says of the item and of history items alike. share: of all items of the catalogue, in (0, 1]."""

    column: str
    value: str
    titles: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Evidence:
    """The item's score and rank for a history, and what they hang on.

    rank: 1 is best, the history left out of the list; None beyond the first RANKS. influences: the largest drop first, of the
    latest LEFT_OUT items. shared: what most history items share first, and of those what fewest of the catalogue have.
    """

    item_id: str
    title: str
    score: float
    rank: int | None
    num_items: int
    num_history: int
    influences: tuple[Influence, ...]
    shared: tuple[SharedValue, ...]

    @property
    def place(self) -> str:
        """The rank in words."""
        place = f"beyond rank {min(RANKS, self.num_items)}" if self.rank is None else f"rank {self.rank:,}"
        return f"{place} of {self.num_items:,}"

    @property
    def suits(self) -> bool:
        """Whether the measurement lets anybody say so: a title of the history speaks for the item, and its rank is among the first
        RANKS and in the better half of the catalogue."""
        return self._is_high and any(influence.drop > 0 for influence in self.influences)

    @property
    def _is_high(self) -> bool:
        return self.rank is not None and 2 * self.rank <= self.num_items

    @property
    def sentences(self) -> str:
        """The measured facts as plain sentences, for readers without a language model."""
        if self.suits:
            return f'"{self.title}" has {self.place} for this history. {self.reasons}'
        if self._is_high:  # for the history as a whole, or for any history
            return (
                f'"{self.title}" has {self.place} for this history, but owes it to no title of it alone. {self.reasons}'
            )
        at = "" if self.rank is None else "at "
        return f'"{self.title}" may not suit this history: it is {at}{self.place}. {self.reasons}'

    @property
    def reasons(self) -> str:
        """The sentences that tell why, and what a language model is told: ranks and scores it would only repeat."""
        parts = []
        helping = [influence.title for influence in self.influences[:3] if influence.drop > 0]
        if helping:
            parts.append(f"Its score falls most without {_listed(helping)}.")
        else:
            against = [influence.title for influence in reversed(self.influences) if influence.drop < 0][:3]
            rises = f"; it rises most without {_listed(against)}" if against else ""
            parts.append(f"Its score does not fall without any one of the titles in it{rises}.")
        alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for shared in self.shared:
            alike.setdefault((shared.column, shared.titles), []).append(shared.value)
        for (column, titles), values in list(alike.items())[:2]:
            parts.append(f"It shares {column} ({', '.join(values)}) with {_listed(titles[:3])}.")
        return " ".join(parts)


def measure(
    recommender: Recommends, history: Sequence[str], item_id: str, *, instruction: str | None = None
) -> Evidence:
    """What this recommender's score of an item for a history hangs on. history: item ids, oldest first, at least one.

    One call of `recommend` and one batch of at most LEFT_OUT + 1 histories through `score_batch`. Where a model reads only the
    latest items of a history, one that is left out lets an older one move in, as it would in use.

    Raises RequestError when the history is empty or holds the item, and for ids that are not in the catalogue.
    """
    history, catalog = list(checked_history(history)), recommender.catalog
    checked_ids([item_id], "the item")
    if not history:
        raise RequestError(
            "an explanation needs a history of one item or more, but it is empty. Name items that were chosen."
        )
    if item_id in history:
        raise RequestError(f"'{item_id}' is in the history itself. Name an item that was not chosen yet.")
    left_out, without = without_each(history, LEFT_OUT)
    histories = [history, *without]
    scores = recommender.score_batch(
        histories,
        [[item_id]] * len(histories),
        instructions=None if instruction is None else [instruction] * len(histories),
    )
    score = scores[0][0]
    listed = recommender.recommend(history, RANKS, instruction=instruction)
    rank = next((place for place, found in enumerate(listed, 1) if found.item_id == item_id), None)
    influences = [
        Influence(dropped, title_of(catalog, dropped), score - other)
        for dropped, (other,) in zip(left_out, scores[1:], strict=True)
    ]
    return Evidence(
        item_id=item_id,
        title=title_of(catalog, item_id),
        score=score,
        rank=rank,
        num_items=catalog.num_items,
        num_history=len(history),
        influences=tuple(sorted(influences, key=lambda influence: -influence.drop)),
        shared=tuple(shared_values(catalog, list(dict.fromkeys(history)), item_id)[:SHARED]),
    )


def without_each(history: Sequence[str], limit: int) -> tuple[list[str], list[list[str]]]:
    """The latest `limit` different items of a history, the latest first, and the history without each of them, all its places."""
    left_out = list(dict.fromkeys(reversed(history)))[:limit]
    return left_out, [[other for other in history if other != dropped] for dropped in left_out]


def shared_values(
    catalog: Catalog, history: Sequence[str], item_id: str, shares: dict[tuple[str, str], float] | None = None
) -> list[SharedValue]:
    """Short values of the catalogue's columns that the item and history items have in common, in the order of `Evidence`.

    shares: what was counted for earlier items, by column and value, to which new counts are added: each reads a column once.
    """
    shares = {} if shares is None else shares
    (item, *others) = catalog.index([item_id, *history]).tolist()
    found = []
    for column in catalog.fields:
        if column in ("title", "image"):
            continue
        for value in values_of(catalog, item, column, _VALUE_CHARACTERS):
            titles = tuple(
                title_of(catalog, other_id)
                for other_id, other in zip(history, others, strict=True)
                if value in values_of(catalog, other, column, _VALUE_CHARACTERS)
            )
            if titles:
                if (column, value) not in shares:
                    shares[column, value] = _share(catalog, column, value)
                found.append(SharedValue(column, value, titles, shares[column, value]))
    return sorted(found, key=lambda value: (-len(value.titles), value.share))


def title_of(catalog: Catalog, item_id: str) -> str:
    """The item's title, or its id where it has none."""
    (item,) = catalog.index([item_id]).tolist()
    return catalog.title(item) or item_id


def values_of(catalog: Catalog, item: int, column: str, max_characters: int | None = None) -> list[str]:
    """What a column says of an item, each value once; longer ones than max_characters are left out."""
    value = catalog.table[column][item].as_py()
    values = value if isinstance(value, list) else [value]
    return [text for text in dict.fromkeys(values) if text and (max_characters is None or len(text) <= max_characters)]


def _share(catalog: Catalog, column: str, value: str) -> float:
    values = catalog.table[column]
    if types.is_list(values.type):
        values = pc.list_flatten(values)
    return min(1.0, pc.sum(pc.equal(values, value)).as_py() / catalog.num_items)


def _listed(titles: Sequence[str]) -> str:
    quoted = [f'"{title}"' for title in titles]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
