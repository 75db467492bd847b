"""Accuracy of a rank: expectations over a uniformly random order of tied items.

Letters: U test instances, K the cut-off.
"""

from __future__ import annotations

import numpy as np


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
