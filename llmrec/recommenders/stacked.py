"""Several recommenders as one: their scores on a common scale, weighed by how long the history is and how often the item was met.

Letters: U requests, I items, P parts, N the length of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from llmrec.data.splits import Instances
from llmrec.errors import ConfigError
from llmrec.metrics import ndcg, ranks_from_scores, recall
from llmrec.recommenders.requests import (
    REQUESTS_AT_ONCE,
    DenseRecommender,
    Ranker,
    Ranking,
    Requests,
    allowed_items,
    top_k,
)
from llmrec.recommenders.stack_weights import (
    FORMS,
    KNEES,
    Shortlists,
    StackWeights,
    chosen,
    folds_of,
    pressed,
)

TOP, DRAWN = 30, 40  # items of a shortlist: the best of each part, and some of all


def batches_of(number: int, size: int, what: str) -> list[np.ndarray]:
    """The rows 0..number-1, `size` at a time, without a word; what: for those that show what they do."""
    return np.split(np.arange(number), range(size, number, size))


@dataclass(frozen=True, eq=False)
class Part:
    """One of the recommenders of a stack.

    ranker: one that gives lists only is taken by `ListedScores`; by_events: whether it knows an item by its training events alone, so
    that it abstains for an item without any, or by what is said of the item, too.
    """

    name: str
    ranker: DenseRecommender
    by_events: bool


class Stacked(DenseRecommender):
    """score(u, i) = sum over the parts that know item i of w_p(u, i) z_p(u, i), over the sum of their w_p(u, i); w by `StackWeights`.

    z_p is the part's score, standardised over the items that request u may receive and part p knows, its tails then pressed together
    (`stack_weights.pressed`), because parts have tails of very different length: a Markov chain is 0 but for a few items, which stand
    fifty deviations out. Each part's own order is kept. A part abstains for items that it does not know, so that its share
    goes to the others; what no part knows comes last.
    """

    name = "stacked"

    def __init__(self, parts: Sequence[Part], counts: np.ndarray, weights: StackWeights | None = None) -> None:
        """counts: training events of each item, integers (I,), of the events that the parts learned from; weights: None for equal ones.

        Raises ConfigError for parts of different catalogues, two of one name, and weights of other parts.
        """
        names = tuple(part.name for part in parts)
        weights = weights or StackWeights.equal(names)
        if not parts or len(set(names)) < len(names):
            raise ConfigError(f"a stack has parts of different names, but they are: {', '.join(names) or 'none'}.")
        for part in parts:
            if part.ranker.num_items != len(counts):
                raise ConfigError(
                    f"the parts of a stack should rank one catalogue, but '{part.name}' knows {part.ranker.num_items} items and "
                    f"the data have {len(counts)}. Fit all on the same data folder."
                )
        if weights.names != names:
            raise ConfigError(
                f"the weights are of the parts {', '.join(weights.names)}, but the parts are {', '.join(names)}. Stack the same "
                "parts in the same order, or fit the weights anew."
            )
        self.parts, self.counts, self.weights = tuple(parts), np.asarray(counts, np.int64), weights
        self.num_items = len(counts)
        self.known = np.stack([(self.counts > 0) | (not part.by_events) for part in parts])  # (P, I)

    @property
    def card(self) -> dict:
        """The parts, the weights, and how they were found."""
        parts = {part.name: {"name": part.ranker.name, **part.ranker.card} for part in self.parts}
        return {"parts": parts, **self.weights.card}

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I) with nothing excluded; see `allowed_scores`."""
        return self.allowed_scores(requests, exclude_seen=False)[0]

    def allowed_scores(
        self, requests: Requests, *, exclude_seen: bool, candidates: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float64 (U, I) and allowed bool (U, I); scores are standardised over allowed items."""
        allowed = allowed_items(requests, self.num_items, exclude_seen=exclude_seen, candidates=candidates)
        parts = self._part_scores(requests, allowed, exclude_seen, candidates)
        return self._mixed(parts, requests.histories.lengths, self.weights), allowed

    def _part_scores(
        self, requests: Requests, allowed: np.ndarray, exclude_seen: bool, candidates: np.ndarray | None
    ) -> Iterator[np.ndarray]:
        """z of one part after another, float (U, I), 0 where it abstains. Raises ModelError for NaN."""
        for part, known in zip(self.parts, self.known, strict=True):
            scores, _ = part.ranker.allowed_scores(requests, exclude_seen=exclude_seen, candidates=candidates)
            z = standardised(finite(scores), allowed & known)
            z[:, ~known] = 0
            yield z

    def _mixed(self, parts: Iterable[np.ndarray], lengths: np.ndarray, weights: StackWeights) -> np.ndarray:
        """Scores float64 (U, I) of z (U, I) of every part."""
        total = np.zeros((len(lengths), self.num_items))
        heard = np.zeros_like(total)  # the weights of the parts that know the item
        for place, (z, known) in enumerate(zip(parts, self.known, strict=True)):
            weight = weights.part(place, lengths, self.counts)
            total += weight * pressed(z, weights.knee)
            heard += weight * known
        someone = self.known.any(axis=0)
        mixed = np.divide(total, heard, out=np.zeros_like(total), where=someone)
        mixed[:, ~someone] = mixed.min(axis=1, initial=0.0, keepdims=True) - 1
        return mixed

    def fit_weights(
        self,
        instances: Instances,
        *,
        exclude_seen: bool = True,
        forms: Sequence[str] = FORMS,
        knees: Sequence[float] = KNEES,
        folds: int = 5,
        seed: int = 0,
        batches: Callable[[int, int, str], Iterable[np.ndarray]] = batches_of,
    ) -> Self:
        """Weights learned from validation instances that no part has learned from; parts may be fitted again on more events afterwards.

        How far tails are pressed, of `knees`, and then what weights may depend on, of `forms`, is chosen by cross-fitting: NDCG@10 of
        every user by weights that were learned from the users of the other folds. The weights kept are of all users. batches:
        (instances, size, what is done) -> row numbers, such as a progress bar over them. Every part scores every instance twice.
        `weights.facts` then hold ndcg@10 and recall@10, cross-fitted, among all items; of each part alone; and of each choice, among
        shortlists.
        Raises ConfigError for fewer instances than folds.
        """
        if len(instances) < folds:
            raise ConfigError(
                f"weights of a stack are learned from {folds} validation users or more, but there are {len(instances)}."
            )
        fold = folds_of(len(instances), folds, seed)
        lists, alone = self._shortlists(instances, exclude_seen, seed, batches)
        weights, by_fold, of_choices = chosen(self.weights.names, forms, knees, lists, fold)
        found = self._measured(instances, exclude_seen, by_fold, fold, batches)
        facts = {**found, "num_users": len(instances), "folds": folds, "seed": seed, "ndcg@10_of_parts": alone}
        self.weights = replace(weights, facts={"validation": {**facts, "ndcg@10_of_choices": of_choices}})
        return self

    def _shortlists(
        self,
        instances: Instances,
        exclude_seen: bool,
        seed: int,
        batches: Callable[[int, int, str], Iterable[np.ndarray]],
    ) -> tuple[Shortlists, dict[str, float]]:
        """What weights are learned from: targets, the best of each part, some drawn items; and NDCG@10 of each part alone."""
        requests, rng = Requests.from_instances(instances), np.random.default_rng(seed)
        lists, gains = [], np.zeros(len(self.parts))
        for rows in batches(len(instances), REQUESTS_AT_ONCE, "asking the parts"):
            some, targets = requests.take(rows), instances.targets[rows].astype(np.int64)
            allowed = allowed_items(some, self.num_items, exclude_seen=exclude_seen)
            z, tops = [], []
            for place, scores in enumerate(self._part_scores(some, allowed, exclude_seen, None)):
                within = allowed & self.known[place]
                tops.append(top_k(scores, within, TOP).items)
                gains[place] += ndcg(*ranks_from_scores(scores, targets, within), 10).sum()
                z.append(scores)
            drawn = rng.integers(0, self.num_items, (len(rows), DRAWN))
            items = np.concatenate([targets[:, None], *tops, drawn], axis=1)  # (U, C)
            own = np.arange(len(rows))[:, None]
            known = self.known[:, items].transpose(1, 2, 0)
            real = (items >= 0) & allowed[own, items] & _first_ones(items) & known.any(axis=-1)
            of_items = np.stack([scores[own, items] for scores in z], axis=-1)
            near = (np.concatenate(tops, axis=1) == targets[:, None]).any(axis=1)
            lists.append(Shortlists(of_items, real, known, self.counts[items], some.histories.lengths, near))
        alone = {part.name: float(gain) / len(instances) for part, gain in zip(self.parts, gains, strict=True)}
        return Shortlists.joined(lists), alone

    def _measured(
        self,
        instances: Instances,
        exclude_seen: bool,
        by_fold: Sequence[StackWeights],
        fold: np.ndarray,
        batches: Callable[[int, int, str], Iterable[np.ndarray]],
    ) -> dict[str, float]:
        """recall@10 and ndcg@10 of all of the catalogue, every user by the weights of its fold."""
        requests, gains, hits = Requests.from_instances(instances), 0.0, 0.0
        for rows in batches(len(instances), REQUESTS_AT_ONCE, "measuring the stack"):
            some = requests.take(rows)
            allowed = allowed_items(some, self.num_items, exclude_seen=exclude_seen)
            z = list(self._part_scores(some, allowed, exclude_seen, None))
            for number in np.unique(fold[rows]):
                own = np.flatnonzero(fold[rows] == number)
                mixed = self._mixed([scores[own] for scores in z], some.histories.lengths[own], by_fold[number])
                ranks = ranks_from_scores(mixed, instances.targets[rows[own]], allowed[own])
                gains, hits = gains + ndcg(*ranks, 10).sum(), hits + recall(*ranks, 10).sum()
        return {"recall@10": float(hits) / len(instances), "ndcg@10": float(gains) / len(instances)}


def _first_ones(items: np.ndarray) -> np.ndarray:
    """Where an item stands for the first time in its row: int (U, C) -> bool (U, C)."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    first = np.ones(items.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    found = np.empty_like(first)
    np.put_along_axis(found, order, first, axis=1)
    return found


class ListedScores(DenseRecommender):
    """A ranker by its best `num_listed` items, with scores of all items: what a generative model has to give.

    Items outside the list share one score, the list's worst less its mean step from item to item: below every listed item, so that the
    model's own order is kept, and close, so that another part can lift what the model just missed.
    """

    def __init__(self, ranker: Ranker, num_listed: int = 20) -> None:
        """num_listed: items it is asked for (a beam search's width)."""
        self.ranker, self.num_listed = ranker, num_listed
        self.name, self.num_items = ranker.name, ranker.num_items

    @property
    def card(self) -> dict:
        """The ranker's, and the length of its list."""
        return {**self.ranker.card, "num_listed": self.num_listed}

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I) of lists with nothing excluded."""
        return self.allowed_scores(requests, exclude_seen=False)[0]

    def allowed_scores(
        self, requests: Requests, *, exclude_seen: bool, candidates: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float64 (U, I) of a list of allowed items, and allowed bool (U, I)."""
        allowed = allowed_items(requests, self.num_items, exclude_seen=exclude_seen, candidates=candidates)
        listed = self.ranker.rank(requests, self.num_listed, exclude_seen=exclude_seen, candidates=candidates)
        return _spread(listed, self.num_items), allowed


def _spread(listed: Ranking, num_items: int) -> np.ndarray:
    """The list's scores at its items and the common lower score everywhere else: float64 (U, I). An empty list is 0 everywhere."""
    real = (listed.items >= 0) & np.isfinite(listed.scores)  # (U, N): an item scored -inf counts as not listed
    scores = listed.scores.astype(np.float64)
    sizes = real.sum(axis=1)
    best = np.where(real, scores, -np.inf).max(axis=1, initial=-np.inf)
    worst = np.where(real, scores, np.inf).min(axis=1, initial=np.inf)
    with np.errstate(invalid="ignore"):  # inf - inf of empty lists
        step = (best - worst) / np.maximum(sizes - 1, 1)
    step[step == 0] = 1.0  # one item, or a list of equals: any distance will do
    floor = np.where(sizes > 0, worst - step, 0.0)
    spread = np.repeat(floor[:, None], num_items, axis=1)
    rows, places = np.nonzero(real)
    spread[rows, listed.items[rows, places]] = scores[rows, places]
    return spread


def finite(scores: np.ndarray) -> np.ndarray:
    """Scores, float (U, I), with each row's least finite one in place of -inf (0 where there is none): -inf has no mean."""
    if not scores.size or np.isfinite(scores.min()):
        return scores
    real = np.isfinite(scores)
    lowest = np.where(real.any(axis=1), np.where(real, scores, np.inf).min(axis=1), 0)
    return np.where(real, scores, lowest[:, None].astype(scores.dtype))


def standardised(scores: np.ndarray, within: np.ndarray) -> np.ndarray:
    """(scores - mean) / standard deviation, both over each row's items within: float (U, I), bool (U, I) -> float (U, I).

    0 in rows where they are all equal.
    """
    count = np.maximum(within.sum(axis=1, keepdims=True), 1)
    centred = scores - (scores * within).sum(axis=1, keepdims=True) / count
    deviation = np.sqrt((centred**2 * within).sum(axis=1, keepdims=True) / count)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
