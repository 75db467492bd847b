"""Is one recommender better than another? Paired differences on the same users, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from llmrec import metrics
from llmrec.errors import ConfigError
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.runner import Evaluation

NOT_SIGNIFICANT = "no significant difference"  # the interval of a difference holds 0
# What may differ between two results that are compared; everything else is the protocol.
_OWN = ("recommender", "ranked_by", "llmrec_version")


@dataclass(frozen=True)
class Difference:
    """first minus second, averaged over users, with the interval of that mean; of_seeds: the same by each seed, where there are
    several."""

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float
    level: float
    in_words: tuple[str, str]  # both names, as tables show them
    of_seeds: tuple[Difference, ...] = ()

    @property
    def verdict(self) -> str:
        """ "above", "below", or NOT_SIGNIFICANT."""
        return verdict_of(self.low, self.high)

    def to_json(self) -> dict:
        """The fields and the verdict, without the names in words; floats in full."""
        value = {**asdict(self), "verdict": self.verdict}
        del value["of_seeds"], value["in_words"]
        if self.of_seeds:
            value["seeds"] = [
                {"value": each.value, "low": each.low, "high": each.high, "verdict": each.verdict}
                for each in self.of_seeds
            ]
        return value


def verdict_of(low: float, high: float) -> str:
    """Which side of 0 the interval of a difference lies on: "above", "below", or NOT_SIGNIFICANT where it holds 0."""
    return "above" if low > 0 else "below" if high < 0 else NOT_SIGNIFICANT


def protocol_key(evaluation: Evaluation) -> dict:
    """What two results must share to stand in one column."""
    return {key: value for key, value in evaluation.protocol.items() if key not in _OWN}


def check_same_questions(first: Evaluation, second: Evaluation) -> None:
    """Raises ConfigError where the protocols or the users of two evaluations differ."""
    ours, theirs = protocol_key(first), protocol_key(second)
    different = [key for key in ours if ours[key] != theirs.get(key)]
    if different or not np.array_equal(first.users, second.users):
        raise ConfigError(
            f"{shown_name(first)} and {shown_name(second)} cannot be compared: they differ in "
            f"{', '.join(different) or 'their users'}. Evaluate both by one task on one data folder."
        )


def paired_differences(first: Evaluation, second: Evaluation, names: Sequence[str]) -> list[Difference]:
    """Differences of the named metrics ("ndcg@10") between two evaluations of the same users by the same protocol.

    The bootstrap redraws users and takes both recommenders' values of each, with the task's resamples, level and seed. Means over seeds
    are compared as means, and seed by seed: with what has no seeds, or as many.
    Raises ConfigError when the protocols or users differ, or a metric was not computed.
    """
    check_same_questions(first, second)
    missing = [name for name in names if name not in first.per_user or name not in second.per_user]
    if missing:
        raise ConfigError(f"no per-user values of {', '.join(missing)} (there are: {', '.join(first.per_user)}).")
    by_seed = [paired_differences(*pair, names) for pair in _pairs_of_seeds(first, second)]
    values = np.stack([first.per_user[name] - second.per_user[name] for name in names], axis=1)  # (U, M)
    interval = first.protocol["interval"]
    level = interval["level"]
    lows, highs = metrics.bootstrap_interval(
        values, resamples=interval["resamples"], level=level, seed=interval["seed"]
    )
    return [
        Difference(
            name, name_of(first), name_of(second), float(values[:, column].mean()), float(lows[column]), float(highs[column]),
            level, (shown_name(first), shown_name(second)), tuple(differences[column] for differences in by_seed),
        )
        for column, name in enumerate(names)
    ]  # fmt: skip


def _pairs_of_seeds(first: Evaluation, second: Evaluation) -> list[tuple[Evaluation, Evaluation]]:
    number = max(len(first.of_seeds), len(second.of_seeds))
    sides = [each.of_seeds or (each,) * number for each in (first, second)]
    return list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else []


def name_of(evaluation: Evaluation) -> str:
    """The evaluated recommender's short name, as JSON has it."""
    return evaluation.protocol["recommender"]["name"]


def shown_name(evaluation: Evaluation) -> str:
    """Its name in tables and sentences: as people write it, or the one `renamed` gave."""
    return evaluation.given_name or name_in_words(evaluation.protocol["recommender"])


def renamed(evaluation: Evaluation, name: str) -> Evaluation:
    """The same result under another name, for two runs of one recommender."""
    card = {**evaluation.protocol["recommender"], "name": name}
    return replace(evaluation, protocol={**evaluation.protocol, "recommender": card}, given_name=name)
