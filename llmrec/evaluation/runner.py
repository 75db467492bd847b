"""Runs one recommender through one task: counts ranks batch by batch, then metrics with intervals, slices, a card.

Letters: U test instances, I items, k the longest list the task asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from llmrec import metrics
from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import make_baseline
from llmrec.data.folder import Data
from llmrec.data.splits import Instances, Split
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.candidates import sampled_candidates
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.progress import batches
from llmrec.evaluation.tasks import CandidatesTask, Interval, NextItemTask
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, DenseRecommender, Ranker, Ranking, Requests, top_k
from llmrec.version import __version__

Kind = Literal["model", "baseline", "hybrid"]
# Scores of all items for a batch take about 8 bytes x batch x num_items, several times over.
SCORED_AT_ONCE = 32  # requests with candidates


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of one recommender on one task.

    protocol: JSON values, all that the numbers depend on; metrics: name -> {"value", "low", "high"} (low and high are
    None for coverage, which is no mean over users); slices: name -> {"num_users", "metrics"}; users: int32 (U,);
    per_user: name -> float64 (U,), for paired differences. Slices are of the users whose target has no training event
    ("cold_target"), lies in the user's own history ("repeated_target"), or does not ("new_target"); masks: bool (U,) of each.
    of_seeds: where this is the mean of runs that differ in their seed, the evaluation of each (`seeds.over_seeds`).
    given_name: what tables call it instead of its model's name (`significance.renamed`). cost: where it was measured
    (`cost.measure_cost`); never part of the protocol.
    """

    protocol: dict
    metrics: dict[str, dict]
    slices: dict[str, dict]
    users: np.ndarray
    per_user: dict[str, np.ndarray]
    kind: Kind = "model"
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    of_seeds: tuple[Evaluation, ...] = ()
    given_name: str = ""
    cost: Cost | None = None

    @property
    def num_unreachable(self) -> int:
        """Test instances that nobody can hit: the target lies in the history, and seen items are filtered."""
        return self.slices["repeated_target"]["num_users"] if self.protocol["exclude_seen"] else 0

    def to_json(self) -> dict:
        """What `--json` prints and reports store: protocol, metrics, slices, and cost where it was measured; floats in full."""
        value = {"protocol": self.protocol, "metrics": self.metrics, "slices": self.slices}
        return value if self.cost is None else {**value, "cost": self.cost.to_json()}


def fit_baseline(name: str, split: Split, fit: str, overrides: Sequence[str] = ()) -> Baseline:
    """A fitted baseline by its name, with settings such as "dim=64" in place of defaults; see `make_baseline`."""
    return make_baseline(name, overrides).fitted(split.fitted(fit))


def evaluate(
    recommender: Ranker,
    data: Data,
    task: NextItemTask,
    subset: str = "test",
    *,
    split: Split | None = None,
    batch: int = REQUESTS_AT_ONCE,
    max_instances: int | None = None,
) -> Evaluation:
    """Asks `recommender` every test instance of the task and finds the ranks of the targets.

    A `DenseRecommender` is ranked by its scores, with expected ranks under ties; any other by the list it returns.
    subset: "test" or "valid"; split: the task's split of these data, where the caller has made it already; max_instances:
    only the first so many (recorded in the protocol). Raises ConfigError for settings that contradict each other and
    ModelError for a recommender that breaks its contract (NaN, seen items, repeated items).
    """
    if subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{subset}'.")
    if subset == "valid" and task.fit == "train+valid":
        raise ConfigError(
            "the validation targets are among the training events 'train+valid': evaluate 'test', or set fit to 'train'."
        )
    if recommender.num_items != data.catalog.num_items:
        raise ConfigError(
            f"'{recommender.name}' knows {recommender.num_items} items but the catalogue of {data.folder} has "
            f"{data.catalog.num_items}. Evaluate it on the data folder that it was made from."
        )
    split = split or task.split.make(data.interactions)
    instances = split.valid if subset == "valid" else split.test
    if max_instances is not None:
        instances = _take_instances(instances, np.arange(min(max_instances, len(instances))))
    if isinstance(task, CandidatesTask):
        candidates, asked = sampled_candidates(instances, data.catalog.num_items, task.num_candidates, task.seed)
        instances = _take_instances(instances, asked)  # users with too few items left are not asked
        greater, equal, items = *_ask_of_candidates(recommender, instances, candidates), None
    else:
        greater, equal, items = _ask(recommender, instances, task, batch)
    counts, repeated = split.fitted(task.fit).counts(), repeated_targets(instances)
    per_user = _per_user(task, instances, greater, equal, items, counts)
    masks = {"cold_target": counts[instances.targets] == 0, "repeated_target": repeated, "new_target": ~repeated}
    return Evaluation(
        _protocol(recommender, data, task, split, subset, instances),
        _with_intervals(task, per_user, items, recommender.num_items),
        slices_of(masks, per_user, task.interval),
        instances.users,
        per_user,
        _kind(recommender),
        masks,
    )


def repeated_targets(instances: Instances) -> np.ndarray:
    """Whether each instance's target lies in its own history: bool (U,). With seen items filtered nobody can hit such a target."""
    rows = np.repeat(np.arange(len(instances)), instances.histories.lengths)
    found = np.zeros(len(instances), dtype=bool)
    found[rows[instances.histories.items == instances.targets[rows]]] = True
    return found


def _kind(recommender: Ranker) -> Kind:
    if isinstance(recommender, Hybrid):
        return "hybrid"
    return "baseline" if isinstance(recommender, Baseline) else "model"


def _take_instances(instances: Instances, rows: np.ndarray) -> Instances:
    times = None if instances.times is None else instances.times[rows]
    return Instances(instances.users[rows], instances.histories.take(rows), instances.targets[rows], times)


def _ask(
    recommender: Ranker, instances: Instances, task: NextItemTask, batch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """greater, equal: float64 (U,); items: int32 (U, k), or None where no metric looks at the lists."""
    requests = Requests.from_instances(instances)
    k = max(task.ks)
    needs_items = bool({"coverage", "popularity_bias"} & set(task.metrics))
    parts = []
    for rows in batches(len(instances), batch, f"evaluating {recommender.name}"):
        asked, targets = requests.take(rows), instances.targets[rows]
        if isinstance(recommender, DenseRecommender):
            scores, allowed = recommender.allowed_scores(asked, exclude_seen=task.exclude_seen)
            greater, equal = metrics.ranks_from_scores(scores, targets, allowed)
            items = top_k(scores, allowed, k).items if needs_items else None
        else:
            ranking = recommender.rank(asked, k, exclude_seen=task.exclude_seen)
            _check_ranking(recommender, ranking, asked, k, task.exclude_seen)
            greater, equal = metrics.ranks_from_ranking(ranking.items, ranking.scores, targets)
            items = ranking.items
        parts.append((greater, equal, items))
    greater, equal, items = zip(*parts, strict=True)
    return np.concatenate(greater), np.concatenate(equal), np.concatenate(items) if needs_items else None


def _ask_of_candidates(
    recommender: Ranker, instances: Instances, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """greater, equal: float64 (U,), among the candidates, int64 (U, C), the target first."""
    requests, parts = Requests.from_instances(instances), []
    for rows in batches(len(instances), SCORED_AT_ONCE, f"evaluating {recommender.name}"):
        scores = recommender.score(requests.take(rows), candidates[rows])
        parts.append(metrics.ranks_from_scores(scores, np.zeros(len(rows), np.int64)))
    greater, equal = zip(*parts, strict=True)
    return np.concatenate(greater), np.concatenate(equal)


def _check_ranking(recommender: Ranker, ranking: Ranking, asked: Requests, k: int, exclude_seen: bool) -> None:
    """A list that repeats items, holds seen ones or has another shape would be counted wrongly without a word."""
    items, scores = ranking.items, ranking.scores
    problem = None
    if items.shape != (len(asked), k) or scores.shape != items.shape:
        problem = f"lists of shape {items.shape} and scores of {scores.shape} instead of ({len(asked)}, {k})"
    elif np.isnan(scores).any():
        problem = "NaN as a score"
    elif items.max(initial=-1) >= recommender.num_items:
        problem = f"item {items.max()} of a catalogue of {recommender.num_items}"
    else:
        ordered = np.sort(items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            problem = "an item twice in one list"
        elif exclude_seen:
            rows = np.repeat(np.arange(len(asked)), asked.histories.lengths)
            if (items[rows] == asked.histories.items[:, None]).any():
                problem = "an item of the history although seen items were excluded"
    if problem:
        raise ModelError(f"'{recommender.name}' returned {problem}. Its rank() breaks the contract of Ranker.")


def _per_user(
    task: NextItemTask,
    instances: Instances,
    greater: np.ndarray,
    equal: np.ndarray,
    items: np.ndarray | None,
    counts: np.ndarray,
) -> dict[str, np.ndarray]:
    """Every metric that is a mean over users: name@k -> float64 (U,)."""
    per_user = {}
    for name in task.metrics:
        for k in task.ks:
            if name in metrics.ACCURACY:
                per_user[f"{name}@{k}"] = metrics.ACCURACY[name](greater, equal, k)
            elif name == "popularity_bias":
                percentiles = metrics.popularity_percentiles(counts)
                histories = instances.histories
                bias = metrics.popularity_bias(items[:, :k], histories.indptr, histories.items, percentiles)
                per_user[f"{name}@{k}"] = bias
    return per_user


def _with_intervals(
    task: NextItemTask, per_user: dict[str, np.ndarray], items: np.ndarray | None, num_items: int
) -> dict:
    result = means(per_user, task.interval)
    if "coverage" in task.metrics:
        for k in task.ks:
            result[f"coverage@{k}"] = {"value": metrics.coverage(items[:, :k], num_items), "low": None, "high": None}
    return result


def means(per_user: dict[str, np.ndarray], interval: Interval) -> dict[str, dict]:
    """Name -> value, low, high: the mean over users and its interval; None without users."""
    values = np.stack(list(per_user.values()), axis=1) if per_user else np.empty((0, 0))
    if not len(values):
        return {name: {"value": None, "low": None, "high": None} for name in per_user}
    lows, highs = metrics.bootstrap_interval(
        values, resamples=interval.resamples, level=interval.level, seed=interval.seed
    )
    return {
        name: {"value": float(values[:, column].mean()), "low": float(lows[column]), "high": float(highs[column])}
        for column, name in enumerate(per_user)
    }


def slices_of(masks: dict[str, np.ndarray], per_user: dict[str, np.ndarray], interval: Interval) -> dict[str, dict]:
    """Of the users of each mask: how many they are, and their metrics."""
    return {
        name: {
            "num_users": int(mask.sum()),
            "metrics": means({metric: values[mask] for metric, values in per_user.items()}, interval),
        }
        for name, mask in masks.items()
    }


def _ranked_by(recommender: Ranker, task: NextItemTask) -> str:
    if isinstance(task, CandidatesTask):
        return "scores of the candidates"
    return "scores of all items" if isinstance(recommender, DenseRecommender) else f"list of {max(task.ks)}"


def _protocol(
    recommender: Ranker, data: Data, task: NextItemTask, split: Split, subset: str, instances: Instances
) -> dict:
    """Everything the numbers depend on; two results whose protocols differ in more than the recommender do not compare."""
    card = data.card  # empty for data made in memory
    return {
        "data": {key: card.get(key) for key in ("name", "content_hash", "counts")},
        "ties": {"time": card.get("ties"), "score": "expected rank over a random order of equal scores"},
        "ratings": card.get("ratings"),
        "task": {"name": task.name, "version": task.version, "kind": task.kind},
        "split": split.card,
        "subset": subset,
        "fit": task.fit,
        "candidates": task.candidates,
        "exclude_seen": task.exclude_seen,
        "ranked_by": _ranked_by(recommender, task),
        "interval": {"kind": "percentile bootstrap over users", **task.interval.model_dump()},
        "num_users": len(instances),
        "num_items": recommender.num_items,
        "recommender": {"name": recommender.name, **recommender.card},
        "llmrec_version": __version__,
    }
