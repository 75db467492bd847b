"""Runs that differ in their seed alone, as one: their mean, their spread, and each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmrec.evaluation.cost import mean_cost
from llmrec.evaluation.runner import Evaluation, means, slices_of
from llmrec.evaluation.significance import check_same_questions
from llmrec.evaluation.tasks import Interval


def over_seeds(evaluations: Sequence[Evaluation], seeds: Sequence[int]) -> Evaluation:
    """The mean over runs of one recommender with different seeds; a single one is returned as it is.

    Every user's value is the mean over the seeds, so intervals over users, slices and paired differences are of that mean. Each metric
    also holds `seeds`, the values by seed, and `std`, their sample standard deviation: the interval says what other users would
    change, `std` what another seed would. Raises ConfigError where protocols or users differ.
    """
    first = evaluations[0]
    if len(evaluations) == 1:
        return first
    for other in evaluations[1:]:
        check_same_questions(first, other)
    per_user = {name: np.mean([each.per_user[name] for each in evaluations], axis=0) for name in first.per_user}
    interval = Interval(**{key: first.protocol["interval"][key] for key in Interval.model_fields})
    metrics = means(per_user, interval)
    for name in first.metrics:
        values = [each.metrics[name]["value"] for each in evaluations]
        if name not in metrics:  # coverage is no mean over users
            metrics[name] = {"value": float(np.mean(values)), "low": None, "high": None}
        metrics[name] |= {"std": float(np.std(values, ddof=1)), "seeds": values}
    card = _common_card([each.protocol["recommender"] for each in evaluations])
    return replace(
        first,
        protocol={**first.protocol, "recommender": {**card, "seeds": list(seeds)}},
        metrics=metrics,
        slices=slices_of(first.masks, per_user, interval),
        per_user=per_user,
        of_seeds=tuple(evaluations),
        cost=mean_cost([each.cost for each in evaluations]),
    )


def _common_card(cards: Sequence[dict]) -> dict:
    """What all say alike, and a list where they differ."""
    return {
        key: value if all(card.get(key) == value for card in cards) else [card.get(key) for card in cards]
        for key, value in cards[0].items()
    }
