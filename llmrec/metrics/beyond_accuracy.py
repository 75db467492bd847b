"""What lists are like besides being right: how much of the catalogue they show, and how popular it is.

Letters: U test instances, I items, k the length of a list.
"""

from __future__ import annotations

import numpy as np


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
