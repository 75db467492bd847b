"""Is one recommender better than another? Paired differences on the same users, with bootstrap intervals, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from llmrec import metrics
from llmrec.errors import ConfigError
from llmrec.evaluation.runner import Evaluation

# What may differ between two results that are compared; everything else is the protocol.
_OWN = ("recommender", "ranked_by", "llmrec_version")


@dataclass(frozen=True)
class Difference:
    """first minus second, averaged over users, with the interval of that mean."""

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float
    level: float

    @property
    def verdict(self) -> str:
        """ "above", "below", or "level" where the interval holds 0."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "level"

    def to_json(self) -> dict:
        """The fields and the verdict; floats in full."""
        return {**asdict(self), "verdict": self.verdict}


def paired_differences(first: Evaluation, second: Evaluation, names: Sequence[str]) -> list[Difference]:
    """Differences of the named metrics ("ndcg@10") between two evaluations of the same users by the same protocol.

    The bootstrap redraws users and takes both recommenders' values of each, with the task's resamples, level and seed.
    Raises ConfigError when the protocols or users differ, or a metric was not computed.
    """
    different = [key for key in first.protocol if key not in _OWN and first.protocol[key] != second.protocol.get(key)]
    if different or not np.array_equal(first.users, second.users):
        raise ConfigError(
            f"{_name(first)} and {_name(second)} cannot be compared: they differ in "
            f"{', '.join(different) or 'their users'}. Evaluate both by one task on one data folder."
        )
    missing = [name for name in names if name not in first.per_user or name not in second.per_user]
    if missing:
        raise ConfigError(f"no per-user values of {', '.join(missing)} (there are: {', '.join(first.per_user)}).")
    values = np.stack([first.per_user[name] - second.per_user[name] for name in names], axis=1)  # (U, M)
    interval = first.protocol["interval"]
    level = interval["level"]
    lows, highs = metrics.bootstrap_interval(
        values, resamples=interval["resamples"], level=level, seed=interval["seed"]
    )
    return [
        Difference(name, _name(first), _name(second), float(value), float(low), float(high), level)
        for name, value, low, high in zip(names, values.mean(axis=0), lows, highs, strict=True)
    ]


def _name(evaluation: Evaluation) -> str:
    return evaluation.protocol["recommender"]["name"]


def verdict_sentence(difference: Difference) -> str:
    """The difference in words: "hybrid is above ease_r on ndcg@10: +.0041 (95 % interval +.0012 to +.0070)"."""
    numbers = (
        f"{_signed(difference.value)} ({difference.level:.0%} interval {_signed(difference.low)} to "
        f"{_signed(difference.high)})"
    ).replace("%", " %")
    name, other, metric = difference.first, difference.second, difference.metric
    if difference.verdict == "level":
        return f"{name} and {other} cannot be told apart on {metric}: {numbers}, the interval holds 0."
    return f"{name} is {difference.verdict} {other} on {metric}: {numbers}."


def verdict_against(differences: Sequence[Difference]) -> str:
    """One sentence for one recommender and metric against several others: whom it beats, whom not, whom it loses to."""
    groups = {word: [d.second for d in differences if d.verdict == word] for word in ("above", "level", "below")}
    first, metric = differences[0].first, differences[0].metric
    assert all((d.first, d.metric) == (first, metric) for d in differences), differences
    if len(groups["above"]) == len(differences):
        others = groups["above"]
        every = others[0] if len(others) == 1 else f"all {len(others)} others ({', '.join(others)})"
        return f"{first} is above {every} on {metric}."
    parts = []
    if groups["above"]:
        parts.append(f"is above {_listed(groups['above'])}")
    if groups["level"]:
        parts.append(f"cannot be told from {_listed(groups['level'])}")
    if groups["below"]:
        parts.append(f"is below {_listed(groups['below'])}")
    return f"{first} {_listed(parts)} on {metric}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1)
