"""Figures of probabilities of clicks, with intervals over users: of one scorer, and of a table of CTR models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmrec import metrics
from llmrec.baselines.click_means import CLICK_MEANS, mean_scores
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.errors import ModelError
from llmrec.evaluation.click_figures import figures_of, quantiles
from llmrec.evaluation.results import ClickEvaluation, Kind, ScoredRows
from llmrec.evaluation.shards import Answers, Work, in_shards
from llmrec.evaluation.significance import verdict_of
from llmrec.evaluation.tasks import ClicksTask, Interval
from llmrec.evaluation.validation import Validation
from llmrec.files import content_hash
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.version import __version__

ROWS_AT_ONCE = 256  # a shard of an evaluation is some of these
_RESAMPLED = {"auc": metrics.auc_resamples, "gauc": metrics.gauc_resamples}


def ask_clicks(
    scorer: ClickScorer,
    asked: ClickExamples,
    protocol: dict,
    task: ClicksTask,
    *,
    kind: Kind = "model",
    masks: Mapping[str, np.ndarray] | None = None,
    work: Work | None = None,
) -> ClickEvaluation:
    """Asks the scorer every example, and measures what it says by the task. protocol: of `click_protocol`.

    masks: bool (N,) of the slices; work: where answers are kept while it runs, so that a killed evaluation goes on. Raises ModelError
    for scores that are NaN or no probabilities.
    """

    def ask(rows: np.ndarray) -> Answers:
        scores = np.asarray(scorer.score_rows(asked.take(rows)))
        _check_scores(scorer.name, scores, len(rows))
        return {"scores": scores}

    place = None
    if work is not None:
        card = {"name": scorer.name, **scorer.card}
        place = work.place(protocol, card, asked.users, asked.items, asked.histories, f"{ROWS_AT_ONCE} rows")
    found = in_shards(ask, len(asked), ROWS_AT_ONCE, f"evaluating {scorer.name}", place=place)
    scores = found.get("scores", np.zeros(0))
    return evaluate_clicks(scorer.name, scorer.card, scores, asked, protocol, task, kind=kind, masks=masks)


def evaluate_clicks(
    name: str,
    card: dict,
    scores: np.ndarray,
    asked: ClickExamples,
    protocol: dict,
    task: ClicksTask,
    *,
    kind: Kind = "model",
    masks: Mapping[str, np.ndarray] | None = None,
) -> ClickEvaluation:
    """The task's figures of scores, float (N,) in [0, 1], of the examples that were asked, with intervals over users.

    masks: bool (N,) of each slice. Raises ModelError for scores that are NaN or no probabilities.
    """
    _check_scores(name, scores, len(asked))
    rows, masks = ScoredRows.of(asked, scores), dict(masks or {})
    found = figures_of(rows, task.metrics, task.interval)
    slices = {
        slice_: {
            "num_rows": int(mask.sum()),
            "num_users": len(np.unique(rows.users[mask])),
            "metrics": figures_of(rows.take(mask), task.metrics, task.interval).metrics,
        }
        for slice_, mask in masks.items()
    }
    protocol = {**protocol, "recommender": {"name": name, **card}}
    return ClickEvaluation(protocol, found.metrics, found.resamples, slices, rows, kind, masks)


def _check_scores(name: str, scores: np.ndarray, num_rows: int) -> None:
    problem = None
    if scores.shape != (num_rows,):
        problem = f"scores of shape {scores.shape} for {num_rows} examples"
    elif np.isnan(scores).any():
        problem = f"NaN as a score (first of example {int(np.isnan(scores).argmax())} of the batch)"
    elif num_rows and not (scores.min() >= 0 and scores.max() <= 1):
        problem = f"scores from {scores.min():g} to {scores.max():g}, which are no probabilities"
    if problem:
        raise ModelError(
            f"'{name}' gave {problem}. Its weights or inputs are broken: train it again, or check the features."
        )


def click_means(
    split: ClickSplit,
    asked: ClickExamples,
    protocol: dict,
    task: ClicksTask,
    num_items: int,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
) -> list[ClickEvaluation]:
    """What every scorer is compared with: the means of items and users over the training examples. masks: bool (N,) of the slices."""
    return [
        evaluate_clicks(
            name,
            {},
            mean_scores(name, split.train, asked, num_items),
            asked,
            protocol,
            task,
            kind="baseline",
            masks=masks,
        )
        for name in CLICK_MEANS
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
        "rows": content_hash(asked.users, asked.items, asked.labels, asked.histories),
        "num_users": len(np.unique(asked.users)),
        "gauc_users": len(of_users.users),
        "gauc_users_left_out": of_users.num_left_out,
        "llmrec_version": __version__,
    }


def ctr_report(rows: ClickExamples, scores: np.ndarray) -> dict:
    """auc and gauc of scores, float (N,): value, and low and high of 95 % of the values over resampled users; None of a figure that
    does not exist, such as the gauc where no user has examples of both classes."""
    return figures_of(ScoredRows.of(rows, scores), ("auc", "gauc"), Interval()).metrics


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
            record[name] |= quantiles(resampled[variant, model][name], level)
            if variant != reference and (reference, model) in groups:
                base = np.mean([found[name] for found in figures[reference, model]])
                interval = quantiles(resampled[variant, model][name] - resampled[reference, model][name], level)
                record[name]["minus_reference"] = {
                    "value": float(np.mean(values) - base),
                    **interval,
                    "verdict": verdict_of(**interval),
                }
        table.append(record)
    return table
