"""The result of one recommender on one task: of a ranking, or of clicks. Both have protocol, metrics with intervals, slices, cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from llmrec import metrics
from llmrec.data.click_examples import ClickExamples
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.tasks import Interval

Kind = Literal["model", "baseline", "hybrid"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of one recommender on one task that ranks items.

    protocol: JSON values, all that the numbers depend on; metrics: name -> {"value", "low", "high"} (low and high are
    None for coverage and Gini, which are no means over users); slices: name -> {"num_users", "metrics"}; users: int32 (U,);
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

    @property
    def compared_by(self) -> list[str]:
        """The metrics that have a paired difference: those that are means over users."""
        return list(self.per_user)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints and reports store: protocol, metrics, slices, and cost where it was measured; floats in full."""
        return _to_json(self)


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """What a scorer said of each example. users, items: int32 (N,); labels: bool (N,); scores: float (N,) in [0, 1]."""

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, asked: ClickExamples, scores: np.ndarray) -> ScoredRows:
        """The examples and their scores."""
        return cls(asked.users, asked.items, asked.labels, np.asarray(scores))

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> ScoredRows:
        """The given rows, integers or bool."""
        return ScoredRows(self.users[rows], self.items[rows], self.labels[rows], self.scores[rows])


@dataclass(frozen=True, eq=False)
class ClickEvaluation:
    """The result of one scorer on the click examples of one task.

    protocol, kind, given_name, cost: as of an `Evaluation`. metrics: name -> {"value", "low", "high"}, None for a figure that does not
    exist (a GAUC without a user of both classes) and for the interval of ECE, whose resamples are biased upwards; slices: name ->
    {"num_rows", "num_users", "metrics"}; resamples: name -> float64 (R,) over resampled users, for paired differences; rows: what every
    example was scored; masks: bool (N,) of each slice. of_seeds: of a mean over seeds the evaluation of each; such a mean has no rows.
    """

    protocol: dict
    metrics: dict[str, dict]
    resamples: dict[str, np.ndarray]
    slices: dict[str, dict] = field(default_factory=dict)
    rows: ScoredRows | None = None
    kind: Kind = "model"
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    of_seeds: tuple[ClickEvaluation, ...] = ()
    given_name: str = ""
    cost: Cost | None = None

    @property
    def num_unreachable(self) -> int:
        """None: every example is asked."""
        return 0

    @property
    def compared_by(self) -> list[str]:
        """The metrics that have a paired difference: those that are resampled."""
        return list(self.resamples)

    def to_json(self) -> dict[str, Any]:
        """Protocol, metrics, slices, and cost where it was measured; floats in full."""
        return _to_json(self)


Result = Evaluation | ClickEvaluation
R = TypeVar("R", Evaluation, ClickEvaluation)


def _to_json(result: Result) -> dict[str, Any]:
    value = {"protocol": result.protocol, "metrics": result.metrics, "slices": result.slices}
    return value if result.cost is None else {**value, "cost": result.cost.to_json()}


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


def interval_of(protocol: dict) -> Interval:
    """The task's interval, as a protocol has it."""
    return Interval(**{key: protocol["interval"][key] for key in Interval.model_fields})
