"""Figures of probabilities of clicks, with intervals over users: of one recommender, and of a table of CTR models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec import metrics
from llmrec.baselines.click_means import CLICK_MEANS, mean_scores
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.significance import Difference, verdict_of
from llmrec.evaluation.tasks import ClicksTask
from llmrec.evaluation.validation import Validation
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.version import __version__

_RESAMPLED = {"auc": metrics.auc_resamples, "gauc": metrics.gauc_resamples}


@dataclass(frozen=True, eq=False)
class ClickEvaluation:
    """The result of one scorer on the click examples of one task.

    protocol: JSON values, all that the numbers depend on; metrics: name -> value, low, high (None for the log loss's interval, and for
    a figure that does not exist); resamples: "auc", "gauc" -> float64 (R,) over resampled users, for paired differences; cost: where
    it was measured (`cost.measure_cost`), never part of the protocol.
    """

    protocol: dict
    metrics: dict[str, dict]
    resamples: dict[str, np.ndarray]
    cost: Cost | None = None

    def to_json(self) -> dict:
        """Protocol and metrics, and cost where it was measured; floats in full."""
        value = {"protocol": self.protocol, "metrics": self.metrics}
        return value if self.cost is None else {**value, "cost": self.cost.to_json()}


def evaluate_clicks(
    name: str, card: dict, scores: np.ndarray, asked: ClickExamples, protocol: dict, task: ClicksTask
) -> ClickEvaluation:
    """The task's figures of scores, float (N,) in [0, 1], of the examples that were asked, with intervals over users."""
    interval = task.interval
    figures = metrics.ctr_metrics(asked.labels, scores, asked.users)
    found, resampled = {}, {}
    for metric in task.metrics:
        value = figures[metric]
        found[metric] = {"value": None if np.isnan(value) else value, "low": None, "high": None}
        if metric in _RESAMPLED and not np.isnan(value):
            resampled[metric] = _RESAMPLED[metric](
                asked.labels, scores, asked.users, resamples=interval.resamples, seed=interval.seed
            )
            found[metric] |= _interval(resampled[metric], interval.level)
    return ClickEvaluation({**protocol, "recommender": {"name": name, **card}}, found, resampled)


def click_means(
    split: ClickSplit, asked: ClickExamples, protocol: dict, task: ClicksTask, num_items: int
) -> list[ClickEvaluation]:
    """What every scorer is compared with: the means of items and users over the training examples."""
    return [
        evaluate_clicks(kind, {}, mean_scores(kind, split.train, asked, num_items), asked, protocol, task)
        for kind in CLICK_MEANS
    ]


def click_protocol(data: Data, task: ClicksTask, split: ClickSplit, subset: str, asked: ClickExamples) -> dict:
    """Everything the numbers depend on but the scorer; with how many users have an AUC of their own."""
    of_users = metrics.user_auc(asked.labels, np.zeros(len(asked)), asked.users)
    return {
        "data": {key: data.card.get(key) for key in ("name", "content_hash", "counts")},
        "task": {"name": task.name, "version": task.version, "kind": task.kind},
        "split": split.card,
        "subset": subset,
        "interval": {"kind": "percentile bootstrap over users", **task.interval.model_dump()},
        "num_rows": len(asked),
        "num_users": len(np.unique(asked.users)),
        "gauc_users": len(of_users.users),
        "gauc_users_left_out": of_users.num_left_out,
        "llmrec_version": __version__,
    }


def click_differences(first: ClickEvaluation, second: ClickEvaluation) -> list[Difference]:
    """Paired differences of AUC and GAUC on the same rows, with intervals over users."""
    level = first.protocol["interval"]["level"]
    cards = [each.protocol["recommender"] for each in (first, second)]
    in_words = (name_in_words(cards[0]), name_in_words(cards[1]))
    return [
        Difference(
            metric, *(card["name"] for card in cards), first.metrics[metric]["value"] - second.metrics[metric]["value"],
            **_interval(ours - second.resamples[metric], level), level=level, in_words=in_words,
        )
        for metric, ours in first.resamples.items()
    ]  # fmt: skip


def ctr_report(rows: ClickExamples, scores: np.ndarray) -> dict:
    """auc and gauc of scores, float (N,): value, and low and high of 95 % of the values over resampled users; None of a figure that
    does not exist, such as the gauc where no user has examples of both classes."""
    task = ClicksTask(kind="clicks", name="clicks", version=1, metrics=("auc", "gauc"))
    return evaluate_clicks("", {}, scores, rows, {}, task).metrics


def click_validation(recommender: PointwiseRecommender, examples: ClickExamples) -> Validation:
    """What a training monitors: the figures of all examples, or of the first so many that it is called with; and how many there are."""

    def validate(max_instances: int = len(examples)) -> dict[str, float]:
        asked = examples.take(np.arange(min(max_instances, len(examples))))
        return metrics.ctr_metrics(asked.labels, recommender.score_rows(asked), asked.users)

    return validate, len(examples)


def click_results(
    recommender: PointwiseRecommender, test: ClickExamples, counted: ClickExamples, num_items: int
) -> dict[str, Any]:
    """AUC and GAUC of the test examples with their intervals over users, next to means of the examples `counted`."""
    scores = {"model": recommender.score_rows(test)}
    for kind in CLICK_MEANS:
        scores[kind] = mean_scores(kind, counted, test, num_items)
    return {"test_rows": len(test), **{name: ctr_report(test, values) for name, values in scores.items()}}


def ctr_table(
    rows: ClickExamples,
    lines: Sequence[dict],
    scores: Sequence[np.ndarray],
    *,
    only: np.ndarray | None = None,
    reference: str = "ids",
    resamples: int = 1000,
    level: float = 0.95,
) -> list[dict]:
    """One record per variant and model: test figures over the seeds, intervals over users, and the paired difference to `reference`.

    rows: the test examples; lines: finished cells (variant, model, seconds), one per seed; scores: float (N,) of each; only:
    bool (N,), which of the examples count, such as those of rare items. For auc and gauc: value (mean over seeds), seed_std,
    low and high (percentile bootstrap over users of the mean over seeds), and for each variant but the reference `minus_reference`:
    value, low, high and verdict (`significance.verdict_of`) against the reference with the same model.
    """
    counted = np.ones(len(rows), bool) if only is None else only
    asked = rows.take(counted)
    groups: dict[tuple[str, str], list[tuple[dict, np.ndarray]]] = {}
    for line, of_line in zip(lines, scores, strict=True):
        groups.setdefault((line["variant"], line["model"]), []).append((line, of_line[counted]))
    figures, resampled = {}, {}
    for group, cells in groups.items():
        figures[group] = [metrics.ctr_metrics(asked.labels, one, asked.users) for _, one in cells]
        resampled[group] = {
            name: np.mean([draw(asked.labels, one, asked.users, resamples=resamples) for _, one in cells], axis=0)
            for name, draw in _RESAMPLED.items()
        }
    of_users = metrics.user_auc(asked.labels, np.zeros(len(asked)), asked.users)
    counts = {
        "rows": len(asked),
        "users": len(np.unique(asked.users)),
        "gauc_users": len(of_users.users),
        "gauc_users_left_out": of_users.num_left_out,
    }
    table = []
    for (variant, model), cells in groups.items():
        record = {"variant": variant, "model": model, "seeds": len(cells), **counts}
        record["logloss"] = float(np.mean([found["logloss"] for found in figures[variant, model]]))
        record["seconds"] = float(np.mean([cell["seconds"] for cell, _ in cells]))
        for name in ("auc", "gauc"):
            values = [found[name] for found in figures[variant, model]]
            record[name] = {"value": float(np.mean(values)), "seed_std": float(np.std(values))}
            record[name] |= _interval(resampled[variant, model][name], level)
            if variant != reference and (reference, model) in groups:
                base = np.mean([found[name] for found in figures[reference, model]])
                interval = _interval(resampled[variant, model][name] - resampled[reference, model][name], level)
                record[name]["minus_reference"] = {
                    "value": float(np.mean(values) - base),
                    **interval,
                    "verdict": verdict_of(**interval),
                }
        table.append(record)
    return table


def _interval(values: np.ndarray, level: float) -> dict[str, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return {"low": float(low), "high": float(high)}
