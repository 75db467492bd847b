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

_ECE = ("ece", "ece_equal_mass")
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
    labels, scores, users = rows.labels, rows.scores, rows.users
    values, resamples = dict.fromkeys(names, float("nan")), {}
    if len(rows):
        values |= {name: metrics.ece(labels, scores, equal_mass=name != "ece") for name in names if name in _ECE}
        if "auc" in names:
            values["auc"] = metrics.auc(labels, scores)
        if not np.isnan(values.get("auc", np.nan)):
            drawn = {"resamples": interval.resamples, "seed": interval.seed}
            resamples["auc"] = metrics.auc_resamples(labels, scores, users, **drawn)
        for sums in _ratios(rows, names):
            values |= {name: _ratio(*own.sum(axis=0)) for name, own in sums.items()}
            resamples |= _redrawn({name: own for name, own in sums.items() if not np.isnan(values[name])}, interval)
    found = {}
    for name in names:
        found[name] = dict(_NOTHING) if np.isnan(values[name]) else {**_NOTHING, "value": float(values[name])}
        if name in resamples:
            found[name] |= quantiles(resamples[name], interval.level)
    return Figures(found, {name: resamples[name] for name in names if name in resamples})


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


def _ratios(rows: ScoredRows, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Figures that are a ratio of two sums over users, name -> float64 (M, 2), each user's parts: of all users, and of those who have
    both answers."""
    labels, scores, users = rows.labels, rows.scores, rows.users
    _, user = np.unique(users, return_inverse=True)
    parts = {name: (_OF_ROWS[name](labels, scores), np.ones(len(rows))) for name in names if name in _OF_ROWS}
    if "f1" in names:
        said = metrics.said_liked(scores)
        parts["f1"] = (2 * said * labels, said + labels)
    of_all = {
        name: np.stack([np.bincount(user, weights=part) for part in both], axis=1) for name, both in parts.items()
    }
    of_both = {}
    if any(name in _OF_USERS for name in names):
        ranked = metrics.ranked_rows(labels, scores, users)
        own = {name: _OF_USERS[name](ranked) for name in names if name in _OF_USERS}
        of_both = {name: np.stack([values, np.ones(len(values))], axis=1) for name, values in own.items()}
    if "gauc" in names:
        of_users = metrics.user_auc(labels, scores, users)
        of_both["gauc"] = np.stack([of_users.values * of_users.rows, of_users.rows], axis=1)
    return [of_all, of_both]


def _ratio(upper: float, lower: float) -> float:
    return float(upper / lower) if lower else float("nan")


def _redrawn(sums: dict[str, np.ndarray], interval: Interval) -> dict[str, np.ndarray]:
    """Resamples of each ratio, float64 (R,), all of the same redrawn users."""
    if not sums:
        return {}
    means = metrics.bootstrap_means(np.concatenate(list(sums.values()), axis=1), interval.resamples, interval.seed)
    return {
        name: np.divide(upper, lower, out=np.full(len(means), np.nan), where=lower > 0)
        for name, upper, lower in zip(sums, means.T[::2], means.T[1::2], strict=True)
    }
