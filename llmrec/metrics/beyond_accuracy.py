"""What lists are like besides being right: how much of the catalogue they show, how evenly, how popular it is, how unlike.

Letters: U test instances, I items, k the length of a list, D width of the items' vectors.
"""

from __future__ import annotations

import numpy as np

_LISTS_AT_ONCE = 1024  # 20 items of 256 numbers: 40 MB


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


def gini(items: np.ndarray, num_items: int) -> float:
    """How unevenly recommendations fall on the catalogue: 0 where every item is recommended as often, 1 - 1 / I where one item has all.

    With n_1 <= ... <= n_I how often each item is recommended: sum over j of (2 j - I - 1) n_j / (I sum of n). Items that are
    never recommended count. NaN where nothing is recommended. items: int (U, k) padded -1. Gini 1912; of recommendations Fleder
    and Hosanagar, "Blockbuster culture's next rise or fall", Management Science 2009.
    """
    counts = np.sort(np.bincount(items[items >= 0], minlength=num_items)).astype(np.float64)
    total = counts.sum()
    if not total:
        return float("nan")
    return float((2.0 * np.arange(1, num_items + 1) - num_items - 1) @ counts / (num_items * total))


def self_information(counts: np.ndarray) -> np.ndarray:
    """-log2 p(i) of each item in bits, float64 (I,): p(i) = (events of i + 1) / (all events + I).

    counts: fitted events of each item, int (I,). The one event added to every item (Laplace) keeps an item without events finite.
    """
    return np.log2(counts.sum() + len(counts)) - np.log2(counts + 1.0)


def novelty(items: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Mean self-information of the recommended items in bits, float64 (U,): how unlikely it was to meet them anyway.

    An empty list counts as the catalogue's mean. items: int (U, k) padded -1; information: from `self_information`. Zhou et al.,
    "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010, who count users rather than events; Castells,
    Hurley and Vargas, "Novelty and diversity in recommender systems", 2015 (mean self-information).
    """
    real = items >= 0
    sums = np.where(real, information[items], 0.0).sum(axis=1)
    sizes = real.sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), information.mean())


def intra_list_diversity(items: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Mean of 1 - cosine over the pairs of items of each list: float64 (U,) in [0, 2]; 0 for a list without a pair.

    items: int (U, k) padded -1; vectors: float (I, D), any length; an item whose vector is all zeros has none, and pairs with it are
    left out. Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005, turned round.

    The cosines of all pairs sum to (|sum of the unit vectors|^2 - k) / 2, so no pair is formed.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    diversity = np.zeros(len(items))
    for start in range(0, len(items), _LISTS_AT_ONCE):
        some = items[start : start + _LISTS_AT_ONCE]
        used = (some >= 0) & (lengths[some] > 0)  # (U, k)
        unit = (
            vectors[some].astype(np.float64) / np.where(used, lengths[some], np.inf)[:, :, None]
        )  # zeros where not used
        size = used.sum(axis=1)
        cosines = ((unit.sum(axis=1) ** 2).sum(axis=1) - size) / 2
        pairs = size * (size - 1) / 2
        mean = 1.0 - np.divide(cosines, pairs, out=np.ones(len(some)), where=pairs > 0)
        diversity[start : start + len(some)] = np.maximum(mean, 0.0)  # equal vectors may round to -1e-16
    return diversity
