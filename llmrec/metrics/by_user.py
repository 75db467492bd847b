"""Each user's own rows as one short list: NDCG, recall, MRR and average precision within users, several rows of which may be liked.

These are RecBench's figures by user. Ties are counted by expectation over a random order of the tied rows, as everywhere. Users whose
rows are of one class are left out, as they are of `gauc`: any order of theirs is as good.

Letters: N examples, M users with examples of both classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.metrics.accuracy import expected_gain


@dataclass(frozen=True, eq=False)
class RankedRows:
    """The rows of users who have both classes, each with the counts its rank within its user's rows follows from.

    users: int (M,) rising; user: int64 (N,) in [0, M), rising; labels: bool (N,); greater, equal: float64 (N,) rows of the same user
    that score more, and other ones that score the same. Within a user rows stand by falling score.
    """

    users: np.ndarray
    user: np.ndarray
    labels: np.ndarray
    greater: np.ndarray
    equal: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over each user's rows: values float (N,) -> float64 (M,)."""
        return np.bincount(self.user, weights=values, minlength=len(self.users))


def ranked_rows(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> RankedRows:
    """Ranks rows within their users. labels: bool (N,); scores: float (N,) without NaN; users: int (N,), in any order."""
    found, user = np.unique(users, return_inverse=True)
    sizes = np.bincount(user, minlength=len(found))
    liked = np.bincount(user, weights=labels, minlength=len(found))
    both = (liked > 0) & (liked < sizes)
    rows = np.flatnonzero(both[user])
    rows = rows[np.lexsort((-scores[rows], user[rows]))]
    user, ordered = (np.cumsum(both) - 1)[user[rows]], scores[rows]
    starts_user = np.diff(user, prepend=-1) != 0
    starts_tie = starts_user | np.append(True, ordered[1:] != ordered[:-1])[: len(rows)]
    places = np.arange(len(rows))
    of_user = np.maximum.accumulate(np.where(starts_user, places, 0))
    of_tie = np.maximum.accumulate(np.where(starts_tie, places, 0))
    tied = np.bincount(of_tie, minlength=len(rows))[of_tie]
    return RankedRows(found[both], user, labels[rows], (of_tie - of_user).astype(float), tied - 1.0)


def user_ndcg(rows: RankedRows, k: int) -> np.ndarray:
    """E[DCG@k] / ideal DCG@k of each user, float64 (M,): a liked row at rank r earns 1 / log2(r + 1).

    Equals scikit-learn's ndcg_score, which averages over ties too. Järvelin and Kekäläinen, TOIS 2002.
    """
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    earned = rows.sums(expected_gain(gains, rows.greater, rows.equal) * rows.labels)
    ideal = np.cumsum(gains)[np.minimum(rows.sums(rows.labels), k).astype(np.int64) - 1]
    return earned / ideal


def user_recall(rows: RankedRows, k: int) -> np.ndarray:
    """The share of each user's liked rows that is among the first k, in expectation: float64 (M,).

    Divided by all liked rows, as RecBench does: a user with two has .5 at most at k = 1.
    """
    return rows.sums(expected_gain(np.ones(k), rows.greater, rows.equal) * rows.labels) / rows.sums(rows.labels)


def user_mrr(rows: RankedRows) -> np.ndarray:
    """E[1 / rank of the first liked row] of each user, float64 (M,). RecBench's public code gives average precision this name.

    The first liked row lies in the first group of equal scores with a liked row: g rows from rank s + 1 on, p of them liked. Its place
    j in a random order of them has P(j) = p / (g - j + 1) times the product over i < j of (g - p - i + 1) / (g - i + 1).
    """
    first = _first_rows(rows)
    size = rows.equal[first] + 1
    liked = _liked_alike(rows)[first]
    value, none_yet = np.zeros(len(first)), np.ones(len(first))  # none_yet: P(no liked row among those before)
    for j in range(int(size.max(initial=0))):
        left = np.maximum(size - j, 1)
        value += none_yet * np.minimum(liked / left, 1) / (rows.greater[first] + j + 1)
        none_yet = none_yet * np.maximum(left - liked, 0) / left * (size > j)
    return value


def user_average_precision(rows: RankedRows) -> np.ndarray:
    """E[mean over the liked rows of the precision at their ranks] of each user, float64 (M,).

    What RecBench's public code calls MRR, where no scores tie. At place j of a group of g equal scores from rank s + 1 on, p of them
    liked and b above it, a row is liked with probability p / g, and b + 1 + (j - 1) (p - 1) / (g - 1) are, up to it, where it is.
    McSherry and Najork, ECIR 2008.
    """
    starts = np.flatnonzero(_starts_of_ties(rows))
    size, liked = rows.equal + 1, _liked_alike(rows)
    place = np.arange(len(rows.user)) - np.repeat(starts, size[starts].astype(np.int64))  # 0 is the group's first
    up_to = _liked_above(rows) + 1 + place * (liked - 1) / np.maximum(size - 1, 1)
    return rows.sums(liked / size * up_to / (rows.greater + place + 1)) / rows.sums(rows.labels)


def _starts_of_ties(rows: RankedRows) -> np.ndarray:
    """Whether a row is the first of its user and score: bool (N,)."""
    same = (rows.user[1:] == rows.user[:-1]) & (rows.greater[1:] == rows.greater[:-1])
    return np.append(True, ~same)[: len(rows.user)]


def _liked_alike(rows: RankedRows) -> np.ndarray:
    """How many rows of the same user and score are liked: float64 (N,)."""
    group = np.cumsum(_starts_of_ties(rows)) - 1
    return np.bincount(group, weights=rows.labels)[group] if len(group) else np.zeros(0)


def _liked_above(rows: RankedRows) -> np.ndarray:
    """How many rows of the same user that score more are liked: float64 (N,)."""
    total = np.concatenate([[0.0], np.cumsum(rows.labels)])
    of_user = np.searchsorted(rows.user, rows.user, side="left")
    return total[of_user + rows.greater.astype(np.int64)] - total[of_user]


def _first_rows(rows: RankedRows) -> np.ndarray:
    """Of each user a row of the best score that a liked row has: int64 (M,)."""
    liked = np.flatnonzero(rows.labels)
    return liked[np.unique(rows.user[liked], return_index=True)[1]]
