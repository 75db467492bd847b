"""Whether a score of .7 is liked seven times in ten.

Letters: N examples, B bins that hold any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # Guo et al., ICML 2017


@dataclass(frozen=True, eq=False)
class Reliability:
    """The points of a reliability plot, by rising score, empty bins left out.

    scores: float64 (B,) the mean score of each bin's examples; liked: float64 (B,) the share of them that was liked; counts: int64 (B,)
    how many they are. Perfectly calibrated scores lie on scores == liked.
    """

    scores: np.ndarray
    liked: np.ndarray
    counts: np.ndarray


def reliability(labels: np.ndarray, scores: np.ndarray, *, bins: int = BINS, equal_mass: bool = False) -> Reliability:
    """Examples in bins of their scores: labels bool (N,), scores float (N,) in [0, 1].

    Bins are the intervals (0, 1/bins], (1/bins, 2/bins], ... (0 is in the first); with equal_mass each holds N / bins examples by rank,
    and equal scores are never divided: all go where the first of them does. Niculescu-Mizil and Caruana, "Predicting good
    probabilities with supervised learning", ICML 2005.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if equal_mass:
        first = np.searchsorted(np.sort(scores), scores, side="left")
        places = first * bins // max(1, len(scores))
    else:
        places = np.maximum(np.ceil(scores * bins).astype(np.int64) - 1, 0)
    counts = np.bincount(places, minlength=bins)
    used = counts > 0
    sums = [np.bincount(places, weights=values, minlength=bins)[used] for values in (scores, labels)]
    return Reliability(sums[0] / counts[used], sums[1] / counts[used], counts[used])


def ece(labels: np.ndarray, scores: np.ndarray, *, bins: int = BINS, equal_mass: bool = False) -> float:
    """Expected calibration error, in [0, 1]: the mean over examples of |share liked - mean score| of their bin; NaN without examples.

    Bins as in `reliability`. Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3, after Naeini et al., AAAI
    2015; equal mass: Nixon et al., "Measuring calibration in deep learning", 2019. It is biased upwards, the more the fewer examples a
    bin holds: compare results on the same examples only.
    """
    points = reliability(labels, scores, bins=bins, equal_mass=equal_mass)
    total = points.counts.sum()
    return float(points.counts @ np.abs(points.liked - points.scores) / total) if total else float("nan")


def brier(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of (score - label)^2, in [0, 1]: labels bool (N,), scores float (N,). Brier, "Verification of forecasts expressed in terms
    of probability", Monthly Weather Review 1950 (half of his sum over both classes)."""
    return float(((np.asarray(scores, dtype=np.float64) - labels) ** 2).mean())
