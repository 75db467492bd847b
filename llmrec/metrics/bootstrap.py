"""Intervals over users: means and click figures of users sampled with replacement.

Letters: U test instances, M metrics, N examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmrec.metrics.clicks import user_auc


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `values` over users sampled with replacement: values float (U, M) -> float64 (resamples, M).

    The same seed and U sample the same users, whatever the values: resamples of two recommenders can be compared.
    """
    num_users = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    rows = max(1, min(resamples, 4_000_000 // max(1, num_users)))  # 32 MB of samples at a time
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        sampled = rng.integers(num_users, size=(size, num_users))
        sampled += np.arange(size)[:, None] * num_users
        times = np.bincount(sampled.ravel(), minlength=size * num_users).reshape(size, num_users)
        means[start : start + size] = times.astype(np.float64) @ values / num_users
    return means


def bootstrap_interval(
    values: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over users (Efron and Tibshirani 1993, chapter 13).

    values: float (U, M), one row per user, one column per metric. Returns low, high: float64 (M,); NaN without users.
    For a paired difference give the users' differences: the interval is then of the mean difference, and what the two
    recommenders share (hard users) cancels.
    """
    if len(values) == 0:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    means = bootstrap_means(values, resamples, seed)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return low, high


def auc_resamples(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """`auc` over users sampled with replacement, with all their examples: float64 (resamples,), NaN where one class was sampled.

    Whole users, because the examples of one user are alike: resampled examples would give too narrow an interval. The same users and
    seed sample the same users whatever the scores, so the quantiles of a difference of two results are the paired interval.
    """
    found, user = np.unique(users, return_inverse=True)
    order = np.argsort(scores, kind="stable")
    labels, user, ordered = labels[order], user[order], scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)  # of each run of equal scores
    values = np.empty(resamples)
    for row, times in enumerate(resampled_counts(len(found), resamples, seed)):
        weights = times[user]
        # cumulated over the runs: (R,) weight of positive and of negative examples that score at most as much
        positive = np.cumsum(np.where(labels, weights, 0))[last]
        negative = np.cumsum(np.where(labels, 0, weights))[last]
        won = np.diff(positive, prepend=0) @ (negative + np.concatenate([[0], negative[:-1]]))
        pairs = 2.0 * positive[-1] * negative[-1]
        values[row] = won / pairs if pairs else np.nan
    return values


def gauc_resamples(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """`gauc` over users sampled with replacement from those with both classes: float64 (resamples,). See `auc_resamples`."""
    of_users = user_auc(labels, scores, users)
    if not len(of_users.users):
        return np.full(resamples, np.nan)
    weighted = np.stack([of_users.values * of_users.rows, of_users.rows], axis=1)
    return ratio_resamples(weighted, resamples=resamples, seed=seed)


def ratio_resamples(sums: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """A ratio of two sums over users, of users sampled with replacement: sums float (M, 2), each user's parts -> float64 (resamples,).

    Means over examples (log loss: sum of losses, number of examples) and F1 are such ratios; NaN where the lower sum is 0.
    """
    if not len(sums):
        return np.full(resamples, np.nan)
    means = bootstrap_means(sums, resamples, seed)
    return np.divide(means[:, 0], means[:, 1], out=np.full(resamples, np.nan), where=means[:, 1] > 0)


def resampled_counts(num_users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is sampled in each resample: int64 (num_users,) a time."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
