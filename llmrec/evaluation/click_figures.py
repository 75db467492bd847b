"""Every figure of a click task, of one set of scored rows: its value, its interval over users, its resamples.

Letters: N rows, M users, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec import metrics
from llmrec.evaluation.results import ScoredRows
from llmrec.evaluation.tasks import Interval

_NOTHING = {"value": None, "low": None, "high": None}
# Of each row, a mean over rows.
_OF_ROWS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "logloss": metrics.row_logloss,
    "brier": lambda labels, scores: (scores.astype(np.float64) - labels) ** 2,
    "accuracy": lambda labels, scores: np.where(labels, metrics.said_liked(scores), 1 - metrics.said_liked(scores)),
}
# Of each user who has rows of both classes, a mean over these users.
_OF_USERS: dict[str, Callable[[metrics.RankedRows], np.ndarray]] = {
    "ndcg@1": lambda rows: metrics.user_ndcg(rows, 1),
    "ndcg@5": lambda rows: metrics.user_ndcg(rows, 5),
    "mrr": metrics.user_mrr,
    "map": metrics.user_average_precision,
    "recall@1": lambda rows: metrics.user_recall(rows, 1),
    "recall@5": lambda rows: metrics.user_recall(rows, 5),
}


@dataclass(frozen=True, eq=False)
class Figures:
    """metrics: name -> value, low, high, None where there is none; resamples: name -> float64 (R,), of those that have an interval."""

    metrics: dict[str, dict]
    resamples: dict[str, np.ndarray]


def figures_of(rows: ScoredRows, names: Sequence[str], interval: Interval) -> Figures:
    """The named figures. Whole users are redrawn, with all their rows; for the figures by user, those who have both answers.

    ECE has no interval: an error of each bin that is chance alone adds to it, and a resample adds its own.
    """
    found, resamples = {}, {}
    for name in names:
        value, draw = _figure(name, rows)
        found[name] = dict(_NOTHING) if np.isnan(value) else {**_NOTHING, "value": value}
        if draw is not None and not np.isnan(value):
            resamples[name] = draw(interval.resamples, interval.seed)
            found[name] |= quantiles(resamples[name], interval.level)
    return Figures(found, resamples)


def mean_figures(of_seeds: Sequence[Figures], level: float) -> Figures:
    """The mean over seeds of every figure that all have, its interval of the mean over the same resampled users; with `seeds`, the
    values by seed, and `std`, their sample standard deviation."""
    found, resamples = {}, {}
    for name in of_seeds[0].metrics:
        values = [each.metrics[name]["value"] for each in of_seeds]
        if None in values:
            found[name] = dict(_NOTHING)
            continue
        found[name] = {
            **_NOTHING,
            "value": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)),
            "seeds": values,
        }
        if all(name in each.resamples for each in of_seeds):
            resamples[name] = np.mean([each.resamples[name] for each in of_seeds], axis=0)
            found[name] |= quantiles(resamples[name], level)
    return Figures(found, resamples)


def quantiles(resamples: np.ndarray, level: float) -> dict[str, float]:
    """low and high: what so many of the resamples, float (R,), lie between."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(resamples, [tail, 1 - tail])
    return {"low": float(low), "high": float(high)}


def _figure(name: str, rows: ScoredRows) -> tuple[float, Callable[[int, int], np.ndarray] | None]:
    """The value, NaN where it does not exist, and what draws so many resamples of it by a seed, where it has any."""
    labels, scores, users = rows.labels, rows.scores, rows.users
    if not len(rows):
        return float("nan"), None
    if name == "auc":
        return metrics.auc(labels, scores), lambda number, seed: metrics.auc_resamples(
            labels, scores, users, resamples=number, seed=seed
        )
    if name == "gauc":
        return metrics.gauc(labels, scores, users), lambda number, seed: metrics.gauc_resamples(
            labels, scores, users, resamples=number, seed=seed
        )
    if name in ("ece", "ece_equal_mass"):
        return metrics.ece(labels, scores, equal_mass=name == "ece_equal_mass"), None
    if name == "f1":
        said = metrics.said_liked(scores)
        sums = _sums_of_users(users, 2 * said * labels, said + labels)
    elif name in _OF_ROWS:
        sums = _sums_of_users(users, _OF_ROWS[name](labels, scores), np.ones(len(rows)))
    else:
        values = _OF_USERS[name](metrics.ranked_rows(labels, scores, users))
        sums = np.stack([values, np.ones(len(values))], axis=1)
    upper, lower = sums.sum(axis=0)
    value = float(upper / lower) if lower else float("nan")
    return value, lambda number, seed: metrics.ratio_resamples(sums, resamples=number, seed=seed)


def _sums_of_users(users: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """float64 (M, 2): each user's sums of two values a row."""
    _, user = np.unique(users, return_inverse=True)
    return np.stack([np.bincount(user, weights=values) for values in (upper, lower)], axis=1)
