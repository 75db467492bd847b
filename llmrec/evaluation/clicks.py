"""Figures of probabilities of clicks, with intervals over users."""

from __future__ import annotations

import numpy as np

from llmrec import metrics
from llmrec.data.click_rows import ClickRows


def click_report(rows: ClickRows, scores: np.ndarray) -> dict:
    """auc and gauc of scores, float (N,): value, and low and high of 95 % of the values over redrawn users; None of a figure that
    does not exist, such as the gauc where no user has rows of both classes."""
    found = {}
    for name, value, resampled in (
        ("auc", metrics.auc(rows.labels, scores), metrics.auc_resamples(rows.labels, scores, rows.users)),
        (
            "gauc",
            metrics.gauc(rows.labels, scores, rows.users),
            metrics.gauc_resamples(rows.labels, scores, rows.users),
        ),
    ):
        if np.isnan(value):
            found[name] = {"value": None, "low": None, "high": None}
            continue
        low, high = np.nanquantile(resampled, [0.025, 0.975])
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found
