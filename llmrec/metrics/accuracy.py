"""Accuracy of a rank: expectations over a uniformly random order of tied items.

Letters: U test instances, K the cut-off.
"""

from __future__ import annotations

import numpy as np


def expected_gain(gains: np.ndarray, greater: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """The mean of `gains` (K,) (what rank 1..K earns, 0 beyond) over ranks greater + 1 .. greater + 1 + equal."""
    k = len(gains)
    earned = np.concatenate([[0.0], np.cumsum(gains)])  # (K + 1,): earned[r] = gains of ranks 1..r
    first = np.minimum(greater, k).astype(np.int64)
    last = np.minimum(greater + equal + 1, k).astype(np.int64)
    return (earned[last] - earned[first]) / (equal + 1)


def recall(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """P(rank of the target <= k), float64 (U,) in [0, 1]. With one target per test instance, hit@k is the same number."""
    return expected_gain(np.ones(k), greater, equal)


def ndcg(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """E[1 / log2(rank + 1) if rank <= k else 0], float64 (U,). One target, so the ideal DCG is 1.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """
    return expected_gain(1.0 / np.log2(np.arange(2, k + 2)), greater, equal)


def mrr(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """E[1 / rank if rank <= k else 0], float64 (U,). The usual uncut MRR is k = num_items."""
    return expected_gain(1.0 / np.arange(1, k + 1), greater, equal)


def precision(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """The share of the list of k that is the target, in expectation: recall / k, float64 (U,) in [0, 1 / k].

    A list shorter than k counts as k, as in trec_eval's P_k.
    """
    return recall(greater, equal, k) / k


def f1(greater: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """E of the harmonic mean of precision and recall at k, float64 (U,) in [0, 2 / (k + 1)].

    With one target both are 0, or they are 1 / k and 1, whose harmonic mean is 2 / (k + 1): so F1 is recall times that, and orders
    recommenders as recall does. van Rijsbergen, "Information retrieval", 1979, chapter 7.
    """
    return recall(greater, equal, k) * 2.0 / (k + 1)


ACCURACY = {"recall": recall, "hit": recall, "precision": precision, "f1": f1, "ndcg": ndcg, "mrr": mrr}
