"""What a recommender is asked and what it answers: requests, rankings, and the two kinds of recommender.

Letters: U requests, E their events, I items of the catalogue, C candidates, k the length of the list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmrec.data.interactions import Histories
from llmrec.data.splits import Instances
from llmrec.errors import ModelError, RequestError

# Lists of at most so many items are worked through for each request; longer ones become filters over the catalogue, which are kept.
REQUESTS_AT_ONCE = 256  # in one call of a ranker: an evaluation's, a validation's, a user's
SHORT_LIST = 4096
_GROUP = 32  # items whose maximum top_k looks at first


@dataclass(frozen=True, eq=False)
class Requests:
    """A batch of U users to recommend for.

    histories: U rows of dense items, oldest first (a row may be empty); users: int32 (U,) dense users of the training
    data, or None where they are unknown; times: int64 (U,) the moment of asking, in the data's unit, or None;
    instructions: U free texts ("something light for tonight"), or None; excluded: U lists of dense items that must not come
    out, whatever was seen, or None; candidates: for each request the only items that may come out, int32 (C_u,), each once,
    or None for the whole catalogue; None where that holds for all. Requests with one rule share one array.
    """

    histories: Histories
    users: np.ndarray | None = None
    times: np.ndarray | None = None
    instructions: list[str] | None = None
    excluded: Histories | None = None
    candidates: list[np.ndarray | None] | None = None

    def __post_init__(self) -> None:
        for field in ("users", "times", "instructions", "excluded", "candidates"):
            value = getattr(self, field)
            if value is not None and len(value) != len(self.histories):
                raise RequestError(
                    f"{field} should have one entry for each of the {len(self.histories)} histories, not {len(value)}."
                )

    @classmethod
    def from_instances(cls, instances: Instances) -> Requests:
        """The requests of test instances, without their targets."""
        return cls(instances.histories, instances.users, instances.times)

    def __len__(self) -> int:
        return len(self.histories)

    def take(self, rows: np.ndarray) -> Requests:
        """The given requests, in the given order. rows: integers (M,) in [0, U)."""
        rows = np.asarray(rows, dtype=np.int64)
        return Requests(
            self.histories.take(rows),
            None if self.users is None else self.users[rows],
            None if self.times is None else self.times[rows],
            None if self.instructions is None else [self.instructions[row] for row in rows],
            None if self.excluded is None else self.excluded.take(rows),
            None if self.candidates is None else [self.candidates[row] for row in rows],
        )

    def choices(self, candidates: np.ndarray | None = None) -> list[np.ndarray | None]:
        """Of each request the only items that may come out; `candidates`, integers (C,), are for requests that bring none."""
        if self.candidates is None:
            return [candidates] * len(self)
        assert candidates is None, "candidates come with the requests or for all of them, not both"
        return self.candidates

    def closed(self, *, exclude_seen: bool) -> Histories | None:
        """The items each request may not receive, U lists: the excluded ones and, where seen items are, those of the history."""
        if not exclude_seen or self.excluded is None:
            return self.histories if exclude_seen else self.excluded
        seen, excluded = self.histories, self.excluded
        rows = [lists[row] for row in range(len(self)) for lists in (seen, excluded)]
        return Histories(seen.indptr + excluded.indptr, np.concatenate([seen.items[:0], *rows]))


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best k items of each request, best first, no item twice.

    items: int32 (U, k) padded with -1 where fewer could be recommended; scores: float (U, k), never rising along a row,
    padded with -inf.
    """

    items: np.ndarray
    scores: np.ndarray

    def at(self, places: np.ndarray) -> Ranking:
        """What stands at these positions of each list, in their order, whose scores may then rise: int64 (U, P), -1 for none."""
        rows, chosen = np.arange(len(places))[:, None], places >= 0
        return Ranking(
            np.where(chosen, self.items[rows, places], -1).astype(np.int32),
            np.where(chosen, self.scores[rows, places], -np.inf).astype(self.scores.dtype),
        )


class Ranker(Protocol):
    """Anything that ranks items for requests: a generative model, a hybrid, a baseline."""

    name: str
    num_items: int

    @property
    def card(self) -> dict:
        """What a report prints next to this recommender's numbers: settings, weights' source, seed (JSON values)."""

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """The best k items of each request. candidates: int32 (C,), or None for the whole catalogue."""

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """Scores of the candidates, int32 (U, C) or (C,) for all requests alike -> float32 (U, C), higher is better."""


def allowed_items(
    requests: Requests, num_items: int, *, exclude_seen: bool, candidates: np.ndarray | None = None
) -> np.ndarray:
    """The items that may be recommended, bool (U, I): where recommenders that score all items handle seen items and candidates.

    exclude_seen takes every item of the history out, the answer too where it is a repeat; what a request excludes is out in any
    instance. candidates: integers (C,), or None for the whole catalogue. Raises RequestError for candidates outside the catalogue.
    """
    masks, rows = rule_masks(requests.choices(candidates), num_items)
    allowed = np.ones((len(requests), num_items), dtype=bool) if masks is None else masks[rows]
    closed = requests.closed(exclude_seen=exclude_seen)
    if closed is not None:
        allowed[np.repeat(np.arange(len(requests)), closed.lengths), closed.items] = False
    return allowed


def distinct_rules(choices: list[np.ndarray | None]) -> tuple[list[np.ndarray | None], np.ndarray]:
    """The different arrays among `choices`, by identity and first seen first, and the index of each request's: int64 (U,)."""
    places: dict[int, int] = {}
    rows = np.array([places.setdefault(id(choice), len(places)) for choice in choices], dtype=np.int64)
    first = np.unique(rows, return_index=True)[1]
    return [choices[row] for row in first], rows


def rule_masks(choices: list[np.ndarray | None], num_items: int) -> tuple[np.ndarray | None, np.ndarray]:
    """One mask for each different rule, bool (R, I), and the mask of each request, int64 (U,); no masks where nobody has a rule."""
    rules, rows = distinct_rules(choices)
    if all(rule is None for rule in rules):
        return None, rows
    return np.stack(
        [np.ones(num_items, dtype=bool) if rule is None else candidate_mask(rule, num_items) for rule in rules]
    ), rows


def candidate_mask(candidates: np.ndarray, num_items: int) -> np.ndarray:
    """The items among `candidates`, integers (C,), as bool (I,). Raises RequestError for candidates outside the catalogue."""
    candidates = checked_candidates(candidates, num_items)
    allowed = np.zeros(num_items, dtype=bool)
    allowed[candidates] = True
    return allowed


def checked_candidates(candidates: np.ndarray, num_items: int) -> np.ndarray:
    """The candidates as int64 (C,). Raises RequestError where some are outside the catalogue."""
    candidates = np.asarray(candidates, dtype=np.int64)
    if candidates.size and not (candidates.min() >= 0 and candidates.max() < num_items):
        raise RequestError(
            f"candidates should be items 0..{num_items - 1}, but they reach from {candidates.min()} to "
            f"{candidates.max()}. Give items of the catalogue this recommender was made for."
        )
    return candidates


def top_k(scores: np.ndarray, allowed: np.ndarray, k: int) -> Ranking:
    """The k best allowed items of each row; of equal scores the lower item number comes first.

    scores: float (U, I) without NaN; allowed: bool (U, I). The ranking keeps the dtype of the scores. -inf is a score
    like any other where the item is allowed.
    """
    chosen = [_best_items(*row, k) for row in zip(scores, allowed, strict=True)]
    sizes = np.array([len(items) for items in chosen], dtype=np.int64)
    rows = np.repeat(np.arange(len(scores)), sizes)
    found = np.concatenate([*chosen, np.zeros(0, np.int64)])
    order = np.lexsort((found, -scores[rows, found], rows))
    found = found[order]
    places = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # position of each within its row
    items = np.full((len(scores), k), -1, dtype=np.int32)
    best = np.full((len(scores), k), -np.inf, dtype=scores.dtype)
    items[rows, places] = found
    best[rows, places] = scores[rows, found]
    return Ranking(items, best)


def _best_items(scores: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """The items top_k lists for one row, in no order: scores float (I,), allowed bool (I,) -> int64 (at most k,).

    The maxima of groups of items bound the kth best from below: k + c of them are passed by k + c items, of which at most
    the c excluded ones do not count. Comparing with that bound leaves little to partition, and no row is copied.
    """
    num_items = len(scores)
    num_groups = num_items // _GROUP
    needed = k + num_items - np.count_nonzero(allowed)
    if needed <= num_groups // 2:
        maxima = (
            scores[: num_groups * _GROUP].reshape(_GROUP, num_groups).max(axis=0)
        )  # each group is a stride of items
        bound = np.partition(maxima, num_groups - needed)[num_groups - needed]
        found = np.flatnonzero((scores >= bound) & allowed)
    else:
        found = np.flatnonzero(allowed)
    if len(found) <= k:
        return found
    found_scores = scores[found]
    kth_best = np.partition(found_scores, len(found) - k)[len(found) - k]
    better, tied = found[found_scores > kth_best], found[found_scores == kth_best]  # items rising
    return np.concatenate([better, tied[: k - len(better)]])


class DenseRecommender(ABC):
    """A recommender that can score the whole catalogue at once; ranking, masks and ties come for free and are exact."""

    name: str
    num_items: int

    @property
    def card(self) -> dict:
        """Facts for the report; see `Ranker.card`."""
        return {}

    @abstractmethod
    def scores(self, requests: Requests) -> np.ndarray:
        """Scores of all items, float (U, I), higher is better, no NaN, whatever was seen. A fresh array."""

    def allowed_scores(
        self, requests: Requests, *, exclude_seen: bool, candidates: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float (U, I) and the items that may be recommended, bool (U, I); the rest have no meaningful score.

        Raises ModelError when a score is NaN.
        """
        allowed = allowed_items(requests, self.num_items, exclude_seen=exclude_seen, candidates=candidates)
        scores = self.scores(requests)
        if scores.size and np.isnan(scores.min()):  # NaN if any is, in one pass that writes nothing
            row = int(np.argmax(np.isnan(scores).any(axis=1)))
            raise ModelError(
                f"'{self.name}' gave NaN as a score (first in request {row} of the batch). "
                "Its weights or features hold NaN: train it again, or check the features."
            )
        return scores, allowed

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """The best k items of each request; equal scores by item number. See `Ranker.rank`."""
        return top_k(*self.allowed_scores(requests, exclude_seen=exclude_seen, candidates=candidates), k)

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """Scores of the candidates, int (U, C) or (C,) -> float32 (U, C)."""
        candidates = np.asarray(candidates, dtype=np.int64)
        checked_candidates(candidates.ravel(), self.num_items)
        rows = np.broadcast_to(candidates, (len(requests), candidates.shape[-1]))
        return np.take_along_axis(self.scores(requests), rows, axis=1).astype(np.float32)
