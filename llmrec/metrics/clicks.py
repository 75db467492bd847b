"""Figures of scores of examples that were liked or not: over all of them, and within each user.

Letters: N examples, M users with examples of both classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    return float(row_logloss(labels, probabilities).mean())


def row_logloss(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-log p(label) of each example: float64 (N,)."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    return -np.log(np.where(labels, p, 1 - p))


def said_liked(scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """1 above the threshold, 0 below it, and 1/2 on it, where a coin decides: float64 (N,)."""
    return np.sign(np.asarray(scores, dtype=np.float64) - threshold) / 2 + 0.5


def binary_accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> float:
    """The share of examples whose score lies on the right side of the threshold, half of one on it: in [0, 1]."""
    said = said_liked(scores, threshold)
    return float(np.where(labels, said, 1 - said).mean())


def binary_f1(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> float:
    """2 TP / (2 TP + FP + FN) of "liked is above the threshold", in [0, 1]; NaN where nothing is liked nor said to be.

    An example on the threshold is half said to be liked. van Rijsbergen, "Information retrieval", 1979, chapter 7.
    """
    said = said_liked(scores, threshold)
    total = said.sum() + labels.sum()
    return float(2 * (said @ labels) / total) if total else float("nan")


def ctr_metrics(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> dict[str, float]:
    """auc, gauc and logloss of probabilities: labels bool (N,), scores float (N,), users int (N,)."""
    return {"auc": auc(labels, scores), "gauc": gauc(labels, scores, users), "logloss": logloss(labels, scores)}
