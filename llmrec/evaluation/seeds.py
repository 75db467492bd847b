"""Runs that differ in their seed alone, as one: their mean, their spread, and each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmrec.evaluation.click_figures import Figures, figures_of, mean_figures
from llmrec.evaluation.cost import mean_cost
from llmrec.evaluation.results import ClickEvaluation, Evaluation, R, interval_of, means, slices_of
from llmrec.evaluation.significance import check_same_questions


def over_seeds(evaluations: Sequence[R], seeds: Sequence[int]) -> R:
    """The mean over runs of one recommender with different seeds; a single one is returned as it is.

    Every user's value (of clicks, every resample's) is the mean over the seeds, so intervals over users, slices and paired differences
    are of that mean. Each metric also holds `seeds`, the values by seed, and `std`, their sample standard deviation: the interval says
    what other users would change, `std` what another seed would. Raises ConfigError where protocols or users differ.
    """
    first = evaluations[0]
    if len(evaluations) == 1:
        return first
    for other in evaluations[1:]:
        check_same_questions(first, other)
    card = _common_card([each.protocol["recommender"] for each in evaluations])
    shared = {
        "protocol": {**first.protocol, "recommender": {**card, "seeds": list(seeds)}},
        "of_seeds": tuple(evaluations),
        "cost": mean_cost([each.cost for each in evaluations]),
    }
    mean = _of_clicks(evaluations) if isinstance(first, ClickEvaluation) else _of_rankings(evaluations)
    return replace(first, **shared, **mean)


def _of_rankings(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    first = evaluations[0]
    per_user = {name: np.mean([each.per_user[name] for each in evaluations], axis=0) for name in first.per_user}
    interval = interval_of(first.protocol)
    metrics = means(per_user, interval)
    for name in first.metrics:
        values = [each.metrics[name]["value"] for each in evaluations]
        if None in values:  # no users
            continue
        if name not in metrics:  # coverage and Gini are no means over users
            metrics[name] = {"value": float(np.mean(values)), "low": None, "high": None}
        metrics[name] |= {"std": float(np.std(values, ddof=1)), "seeds": values}
    return {"metrics": metrics, "slices": slices_of(first.masks, per_user, interval), "per_user": per_user}


def _of_clicks(evaluations: Sequence[ClickEvaluation]) -> dict[str, Any]:
    first, interval = evaluations[0], interval_of(evaluations[0].protocol)
    mean = mean_figures([Figures(each.metrics, each.resamples) for each in evaluations], interval.level)
    slices = {}
    for name, mask in first.masks.items():
        assert all(each.rows is not None for each in evaluations)
        of_slice = [figures_of(each.rows.take(mask), list(first.metrics), interval) for each in evaluations]
        slices[name] = {**first.slices[name], "metrics": mean_figures(of_slice, interval.level).metrics}
    return {"metrics": mean.metrics, "resamples": mean.resamples, "slices": slices, "rows": None}


def _common_card(cards: Sequence[dict]) -> dict:
    """What all say alike, and a list where they differ."""
    return {
        key: value if all(card.get(key) == value for card in cards) else [card.get(key) for card in cards]
        for key, value in cards[0].items()
    }
