"""Is one recommender better than another? Paired differences on the same users, with intervals, p-values and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtr

from llmrec import metrics
from llmrec.errors import ConfigError
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.results import ClickEvaluation, Evaluation, R, Result, interval_of

NOT_SIGNIFICANT = "no significant difference"  # the interval holds 0, or the p-value is too large among so many tests
LEAST_USERS = 30
NO_VERDICT = f"no verdict on fewer than {LEAST_USERS} users"
# What may differ between two results that are compared; everything else is the protocol.
OWN = ("recommender", "ranked_by", "llmrec_version")
_OF_BOTH_ANSWERS = ("gauc", "ndcg@1", "ndcg@5", "mrr", "map", "recall@1", "recall@5")  # of clicks: by users with both


@dataclass(frozen=True)
class Difference:
    """first minus second, averaged over users, with the interval of that mean; of_seeds: the same by each seed, where there are
    several.

    p: two-sided, that there is no difference; num_users: whom the figure is of; num_tests: how many differences were tested together
    (`corrected`), and adjusted_p: p after Holm's correction for them, p itself where there is one test.
    """

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float
    level: float
    in_words: tuple[str, str]  # both names, as tables show them
    of_seeds: tuple[Difference, ...] = ()
    p: float = float("nan")
    num_users: int = LEAST_USERS
    num_tests: int = 1
    adjusted_p: float = float("nan")

    @property
    def verdict(self) -> str:
        """ "above", "below", NOT_SIGNIFICANT, or NO_VERDICT. The interval decides; where several were tested together, Holm's too."""
        if self.num_users < LEAST_USERS:
            return NO_VERDICT
        if self.num_tests > 1 and not self.adjusted_p < 1 - self.level:
            return NOT_SIGNIFICANT
        return verdict_of(self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """The fields and the verdict, without the names in words; floats in full, None for a p-value that there is not."""
        value = {**asdict(self), "verdict": self.verdict}
        del value["of_seeds"], value["in_words"]
        value |= {name: None if np.isnan(value[name]) else value[name] for name in ("p", "adjusted_p")}
        if self.of_seeds:
            value["seeds"] = [
                {"value": each.value, "low": each.low, "high": each.high, "verdict": each.verdict}
                for each in self.of_seeds
            ]
        return value


def verdict_of(low: float, high: float) -> str:
    """Which side of 0 the interval of a difference lies on: "above", "below", or NOT_SIGNIFICANT where it holds 0."""
    return "above" if low > 0 else "below" if high < 0 else NOT_SIGNIFICANT


def protocol_key(evaluation: Result) -> dict:
    """What two results must share to stand in one column."""
    return {key: value for key, value in evaluation.protocol.items() if key not in OWN}


def check_same_questions(first: Result, second: Result) -> None:
    """Raises ConfigError, which names what differs, where the protocols or the users of two evaluations do."""
    ours, theirs = (_leaves(protocol_key(each)) for each in (first, second))
    different = [
        f"{key} ({ours.get(key, 'none')} and {theirs.get(key, 'none')})"
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    ]
    if not different and isinstance(first, Evaluation) and isinstance(second, Evaluation):
        different = [] if np.array_equal(first.users, second.users) else ["their users"]
    if different:
        shown = ", ".join(different[:4]) + (f" and {len(different) - 4} more" if len(different) > 4 else "")
        raise ConfigError(
            f"{shown_name(first)} and {shown_name(second)} cannot be compared: they differ in {shown}. Evaluate both by one task on "
            "one data folder."
        )


def _leaves(value: dict, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _leaves(part, f"{prefix}{key}.") if isinstance(part, dict) and part else {f"{prefix}{key}": part}
    return found


def paired_differences(first: Result, second: Result, names: Sequence[str]) -> list[Difference]:
    """Differences of the named metrics ("ndcg@10", "auc") between two evaluations of the same users by the same protocol.

    The bootstrap redraws users and takes both recommenders' values of each, with the task's resamples, level and seed. The p-value is
    that of a paired t-test over users (Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
    retrieval evaluation", CIKM 2007: bootstrap, permutation and t-test agree); of clicks, whose figures are no means over users, that
    of the difference over the standard deviation of its resamples (Efron and Tibshirani 1993, chapter 6). Means over seeds are compared
    as means, and seed by seed: with what has no seeds, or as many.
    Raises ConfigError when the protocols or users differ, or a metric was not computed.
    """
    check_same_questions(first, second)
    missing = [name for name in names if name not in first.compared_by or name not in second.compared_by]
    if missing:
        there = ", ".join(first.compared_by) or "none"
        raise ConfigError(f"there is no paired difference of {', '.join(missing)} (there are: {there}).")
    if not names:
        return []
    by_seed = [paired_differences(*pair, names) for pair in _pairs_of_seeds(first, second)]
    interval = interval_of(first.protocol)
    if isinstance(first, ClickEvaluation):
        assert isinstance(second, ClickEvaluation), type(second)
        values, lows, highs, ps, num_users = _of_clicks(first, second, names, interval.level)
    else:
        assert isinstance(second, Evaluation), type(second)
        differing = np.stack([first.per_user[name] - second.per_user[name] for name in names], axis=1)  # (U, M)
        lows, highs = metrics.bootstrap_interval(
            differing, resamples=interval.resamples, level=interval.level, seed=interval.seed
        )
        values, num_users = differing.mean(axis=0), [len(differing)] * len(names)
        ps = paired_t(differing)
    return [
        Difference(
            name, name_of(first), name_of(second), float(values[column]), float(lows[column]), float(highs[column]), interval.level,
            (shown_name(first), shown_name(second)), tuple(differences[column] for differences in by_seed),
            p=float(ps[column]), num_users=num_users[column], adjusted_p=float(ps[column]),
        )
        for column, name in enumerate(names)
    ]  # fmt: skip


def _of_clicks(
    first: ClickEvaluation, second: ClickEvaluation, names: Sequence[str], level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Differences, the ends of their intervals, p-values: float64 (M,); users of each."""
    values = np.array([first.metrics[name]["value"] - second.metrics[name]["value"] for name in names])
    drawn = np.stack([first.resamples[name] - second.resamples[name] for name in names], axis=1)  # (R, M)
    drawn = np.where(np.abs(drawn) < 1e-12, 0.0, drawn)  # two ways to one value differ by rounding
    tail = (1 - level) / 2
    lows, highs = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    protocol = first.protocol
    num_users = [protocol["gauc_users" if name in _OF_BOTH_ANSWERS else "num_users"] for name in names]
    return values, lows, highs, _p_of(values, np.nanstd(drawn, axis=0, ddof=1), np.array(num_users)), num_users


def paired_t(differing: np.ndarray) -> np.ndarray:
    """Two-sided p-values of Student's paired t-test: each user's differences, float (U, M) -> float64 (M,); NaN with one user."""
    num_users = len(differing)
    if num_users < 2:
        return np.full(differing.shape[1], np.nan)
    error = differing.std(axis=0, ddof=1) / np.sqrt(num_users)
    return _p_of(differing.mean(axis=0), error, np.full(differing.shape[1], num_users))


def _p_of(values: np.ndarray, errors: np.ndarray, num_users: np.ndarray) -> np.ndarray:
    """Of no difference 1, of one without any error 0."""
    t = np.divide(values, errors, out=np.where(values == 0, 0.0, np.inf), where=errors > 0)
    return 2 * stdtr(np.maximum(num_users - 1, 1), -np.abs(t))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that calling every one below a level significant errs, in any of them, with that probability at most.

    The smallest of m is multiplied by m, the next by m - 1, ...; none becomes smaller than the one before it, or larger than 1. Holm,
    "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.minimum(values[order] * np.arange(len(values), 0, -1), 1.0)
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(raised)
    return adjusted.tolist()


def corrected(contests: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """The same differences, each knowing how many were tested with it. contests: of each pair one difference a metric.

    A family is all pairs by one metric: metrics of the same lists say nearly the same, and a reader takes one of them.
    """
    found = [list(contest) for contest in contests]
    for column in range(len(found[0]) if found else 0):
        adjusted = holm([contest[column].p for contest in found])
        for contest, p in zip(found, adjusted, strict=True):
            contest[column] = replace(contest[column], num_tests=len(found), adjusted_p=p)
    return found


def _pairs_of_seeds(first: Result, second: Result) -> list[tuple[Any, Any]]:
    number = max(len(first.of_seeds), len(second.of_seeds))
    sides = [each.of_seeds or (each,) * number for each in (first, second)]
    return list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else []


def name_of(evaluation: Result) -> str:
    """The evaluated recommender's short name, as JSON has it."""
    return evaluation.protocol["recommender"]["name"]


def shown_name(evaluation: Result) -> str:
    """Its name in tables and sentences: as people write it, or the one `renamed` gave."""
    return evaluation.given_name or name_in_words(evaluation.protocol["recommender"])


def renamed(evaluation: R, name: str) -> R:
    """The same result under another name, for two runs of one recommender."""
    card = {**evaluation.protocol["recommender"], "name": name}
    return replace(evaluation, protocol={**evaluation.protocol, "recommender": card}, given_name=name)
