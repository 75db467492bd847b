"""Metrics as hand-checkable functions of arrays, no model and no config: ranking with one relevant item per test instance, and clicks.

Letters: U test instances (one user's request and target each), I items of the catalogue, K the cut-off, M metrics,
N examples (one user, one item, clicked or not).

Every accuracy metric is a function of two numbers per test instance: how many other items beat the target (`greater`) and how many
tie with it (`equal`). The value is the expectation over a uniformly random order of the tied items, so a scorer that
gives every item one score gets recall@K = K / num_items and cannot win by its sorting routine (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of tied scores", ECIR 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# ------------------------------------------------------------------------------------------------------------- ranks

_ROWS_AT_ONCE = 16  # 12,101 items: seven eighths of the time of one row at a time


def ranks_from_scores(
    scores: np.ndarray, targets: np.ndarray, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the items that beat and that tie with the target, without sorting.

    scores: float (U, I), higher is better, -inf permitted. NaN would beat nothing: `allowed_scores` refuses it before.
    targets: int (U,) in [0, I). allowed: bool (U, I), the items that may be ranked (None: all). A target that is not
    allowed is a miss.
    Returns greater, equal: float64 (U,), `equal` without the target itself; `greater` is inf for a miss.

    A few rows at a time: they stay in the CPU's cache through both counts. Each row is counted for itself: counting a whole
    boolean row is one vector instruction after another, where counts along an axis of a matrix are not.
    """
    num_instances, num_items = scores.shape
    greater, equal = np.empty(num_instances), np.empty(num_instances)
    counted = np.empty((_ROWS_AT_ONCE, num_items), dtype=bool)
    own = scores[np.arange(num_instances), targets][:, None]  # (U, 1)
    for start in range(0, num_instances, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, num_instances))
        some = counted[: rows.stop - rows.start]
        np.greater(scores[rows], own[rows], out=some)
        if allowed is not None:
            np.logical_and(some, allowed[rows], out=some)
        greater[rows] = [np.count_nonzero(row) for row in some]
        np.equal(scores[rows], own[rows], out=some)
        equal[rows] = [np.count_nonzero(row) for row in some]
        if allowed is not None and equal[rows].max() > 1:  # mostly each target alone
            np.logical_and(some, allowed[rows], out=some)
            equal[rows] = [np.count_nonzero(row) for row in some]
    equal -= 1.0
    if allowed is not None:
        missed = ~allowed[np.arange(num_instances), targets]
        greater[missed], equal[missed] = np.inf, 0.0
    return greater, equal


def ranks_from_ranking(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same two counts from a list of the best k items: what is not in the list is a miss.

    items: int (U, k) padded with -1; scores: float (U, k) padded with -inf; targets: int (U,).
    Returns greater, equal: float64 (U,). Equal to `ranks_from_scores` wherever no item tied with the target was cut
    off at the list's end; ties across that end were broken by whoever made the list.
    """
    found = items == targets[:, None]  # (U, k)
    hit = found.any(axis=1)
    x = np.where(hit, scores[np.arange(len(targets)), found.argmax(axis=1)], np.inf)[:, None]
    real = items >= 0
    greater = np.where(hit, np.count_nonzero((scores > x) & real, axis=1), np.inf)
    equal = np.where(hit, np.count_nonzero((scores == x) & real, axis=1) - 1.0, 0.0)
    return greater, equal


# ---------------------------------------------------------------------------------------------------------- accuracy


def _expected_gain(gains: np.ndarray, greater: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """The mean of `gains` (K,) (what rank 1..K earns, 0 beyond) over ranks greater + 1 .. greater + 1 + equal."""
    k = len(gains)
    earned = np.concatenate([[0.0], np.cumsum(gains)])  # (K + 1,): earned[r] = gains of ranks 1..r
    first = np.minimum(greater, k).astype(np.int64)
    last = np.minimum(greater + equal + 1, k).astype(np.int64)
    return (earned[last] - earned[first]) / (equal + 1)


def recall(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """P(rank of the target <= k), float64 (U,) in [0, 1]. With one target per test instance, hit@k is the same number."""
    return _expected_gain(np.ones(k), greater, equal)


def ndcg(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """E[1 / log2(rank + 1) if rank <= k else 0], float64 (U,). One target, so the ideal DCG is 1.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """
    return _expected_gain(1.0 / np.log2(np.arange(2, k + 2)), greater, equal)


def mrr(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """E[1 / rank if rank <= k else 0], float64 (U,). The usual uncut MRR is k = num_items."""
    return _expected_gain(1.0 / np.arange(1, k + 1), greater, equal)


ACCURACY = {"recall": recall, "hit": recall, "ndcg": ndcg, "mrr": mrr}

# ---------------------------------------------------------------------------------------------- beyond the one target


def coverage(items: np.ndarray, num_items: int) -> float:
    """The share of the catalogue that at least one test instance was recommended: items int (U, k) padded -1 -> [0, 1].

    Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy", RecSys 2010 (catalogue coverage).
    """
    recommended = np.zeros(num_items, dtype=bool)
    recommended[items[items >= 0]] = True
    return float(recommended.mean())


def popularity_percentiles(counts: np.ndarray) -> np.ndarray:
    """Each item's popularity as its mid-rank among all items, float64 (I,) in (0, 1) with mean .5.

    counts: fitted events of each item, int (I,). Items of equal count share one percentile.
    """
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left")
    up_to = np.searchsorted(ordered, counts, side="right")
    return (below + up_to) / (2.0 * len(counts))


def popularity_bias(
    items: np.ndarray, history_indptr: np.ndarray, history_items: np.ndarray, percentiles: np.ndarray
) -> np.ndarray:
    """How much more popular the recommended items are than those of the user's own history, float64 (U,) in (-1, 1).

    bias_u = mean over recommended i of percentile(i) - mean over i in u's history of percentile(i); 0 is a user served
    at her own level, above 0 the recommender pushes popular items. It is the lift of "group average popularity"
    (Abdollahpouri et al., "The unfairness of popularity bias in recommendation", RMSE 2019), on percentiles, so that
    one blockbuster does not decide it. An empty list or history counts as the catalogue's mean, .5.

    items: int (U, k) padded -1; history_indptr (U + 1,), history_items: CSR; percentiles: from popularity_percentiles.
    """
    real = items >= 0
    sums = np.where(real, percentiles[items], 0.0).sum(axis=1)
    sizes = real.sum(axis=1)
    recommended = np.where(sizes > 0, sums / np.maximum(sizes, 1), 0.5)
    running = np.concatenate([[0.0], np.cumsum(percentiles[history_items])])
    lengths = np.diff(history_indptr)
    own = (running[history_indptr[1:]] - running[history_indptr[:-1]]) / np.maximum(lengths, 1)
    return recommended - np.where(lengths > 0, own, 0.5)


# ------------------------------------------------------------------------------------------------------ CTR


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """P(a positive example scores above a negative one) + P(equal) / 2: in [0, 1], .5 for a constant, NaN with one class only.

    labels: bool (N,); scores: float (N,). Mann and Whitney's U over its largest value; Fawcett, "An introduction to ROC
    analysis", Pattern Recognition Letters 2006.
    """
    assert labels.dtype == bool, labels.dtype  # 0 and 1 would be taken for indices
    positive = scores[labels]
    negative = np.sort(scores[~labels])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    return float((below + up_to).mean() / (2.0 * len(negative)))


@dataclass(frozen=True, eq=False)
class UserAUC:
    """AUC within each user who has examples of both classes.

    users: int (M,) rising; values: float64 (M,) in [0, 1]; rows: int64 (M,) examples of that user;
    num_left_out: users whose examples are of one class, for whom no AUC exists; rows_left_out: their examples.
    """

    users: np.ndarray
    values: np.ndarray
    rows: np.ndarray
    num_left_out: int
    rows_left_out: int


def user_auc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> UserAUC:
    """`auc` of every user's own examples. labels: bool (N,); scores: float (N,); users: int (N,), in any order."""
    found, starts = np.unique(users, return_inverse=True)
    order = np.argsort(starts, kind="stable")
    sizes = np.bincount(starts, minlength=len(found))
    values = np.empty(len(found))
    for row, own in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
        values[row] = auc(labels[own], scores[own])
    both = ~np.isnan(values)
    return UserAUC(found[both], values[both], sizes[both], int((~both).sum()), int(sizes[~both].sum()))


def gauc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> float:
    """Mean of the users' own AUCs, each weighted by the user's examples (impressions); users of one class are left out.

    A constant per user changes nothing: only the order within a user counts. NaN where no user has both classes;
    `user_auc` says how many were left out. Zhu et al., "Optimized cost per click in Taobao display advertising", KDD 2017,
    equation 16.
    """
    of_users = user_auc(labels, scores, users)
    total = of_users.rows.sum()
    return float(of_users.values @ of_users.rows / total) if total else float("nan")


def logloss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log p(label), in nats: labels bool (N,), probabilities float (N,) in [0, 1], kept 1e-7 away from both ends."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    return float(-np.log(np.where(labels, p, 1 - p)).mean())


def ctr_metrics(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> dict[str, float]:
    """auc, gauc and logloss of probabilities: labels bool (N,), scores float (N,), users int (N,)."""
    return {"auc": auc(labels, scores), "gauc": gauc(labels, scores, users), "logloss": logloss(labels, scores)}


# --------------------------------------------------------------------------------------------------------- intervals


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
    for row, times in enumerate(_resampled_counts(len(found), resamples, seed)):
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
    sums = bootstrap_means(weighted, resamples, seed)
    return sums[:, 0] / sums[:, 1]


def _resampled_counts(num_users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is sampled in each resample: int64 (num_users,) a time."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
