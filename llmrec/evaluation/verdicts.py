"""What the paired differences say, in words: each with its interval, and whether that holds 0. No opinions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from llmrec.evaluation.results import ClickEvaluation, Result
from llmrec.evaluation.significance import (
    LEAST_USERS,
    NO_VERDICT,
    NOT_SIGNIFICANT,
    Difference,
    corrected,
    paired_differences,
)

METRICS = ("ndcg@10", "recall@10")
CLICK_METRICS = ("auc", "gauc")
_LABELS = {
    "code_recall": "Recall by codes",
    "ndcg": "NDCG", "recall": "Recall", "hit": "Hit", "mrr": "MRR", "map": "MAP", "f1": "F1", "popularity_bias": "Popularity bias",
    "auc": "AUC", "gauc": "GAUC", "logloss": "Log loss", "brier": "Brier score", "ece": "ECE", "ece_equal_mass": "ECE (equal mass)",
}  # fmt: skip


def judged_by(evaluation: Result) -> list[str]:
    """The metrics that recommenders are compared by unless others are named, of those that the result has a difference of."""
    usual = CLICK_METRICS if isinstance(evaluation, ClickEvaluation) else METRICS
    return [name for name in usual if name in evaluation.compared_by]


def shared_metrics(evaluations: Sequence[Result]) -> list[str]:
    """All that every one of them has a paired difference of: a figure such as F1 need not exist for all."""
    return [name for name in evaluations[0].compared_by if all(name in each.compared_by for each in evaluations[1:])]


def contests(evaluations: Sequence[Result], metrics: Sequence[str] | None = None) -> list[list[Difference]]:
    """Every model against every baseline and the models after it, the hybrid against all others: for each pair a list of differences,
    one per metric, corrected for how many pairs there are. metrics: by default `judged_by` the first."""
    baselines, models, hybrids = (
        [evaluation for evaluation in evaluations if evaluation.kind == kind]
        for kind in ("baseline", "model", "hybrid")
    )
    pairs = [(model, other) for model in models for other in baselines]
    pairs += combinations(models, 2)
    pairs += [(hybrid, other) for hybrid in hybrids for other in (*baselines, *models)]
    return tested(pairs, metrics)


def all_pairs(evaluations: Sequence[Result], metrics: Sequence[str] | None = None) -> list[list[Difference]]:
    """The same for every pair, whatever its parts are."""
    return tested(list(combinations(evaluations, 2)), metrics)


def tested(pairs: Sequence[tuple[Result, Result]], metrics: Sequence[str] | None = None) -> list[list[Difference]]:
    """The paired differences of these pairs, after Holm."""
    names = (judged_by(pairs[0][0]) if pairs else []) if metrics is None else metrics
    return corrected([paired_differences(first, second, names) for first, second in pairs]) if names else []


def verdicts(evaluations: Sequence[Result], metrics: Sequence[str] | None = None) -> list[str]:
    """One sentence per pair of `contests`, and what they were corrected by. None where most test instances cannot be hit: `notes` says
    so."""
    if mostly_unreachable(evaluations[0]):
        return []
    return in_sentences(contests(evaluations, metrics))


def in_sentences(tested_pairs: Sequence[Sequence[Difference]]) -> list[str]:
    """One sentence per pair, and one about all of them where there are several, or too few users."""
    if not tested_pairs:
        return []
    found = [sentence(contest) for contest in tested_pairs]
    smallest = min(difference.num_users for contest in tested_pairs for difference in contest)
    if smallest < LEAST_USERS:
        found.append(f"With {smallest} test users there is no verdict: {LEAST_USERS} are needed at least.")
    elif len(tested_pairs) > 1:
        found.append(f"Corrected for {len(tested_pairs)} comparisons by Holm's method, metric by metric.")
    return found


def sentence(contest: Sequence[Difference]) -> str:
    """The differences of one pair in words: "A is above B by .0210 in NDCG@10 (95 % interval +.0101 to +.0317); above by ..."."""
    first, second = contest[0].in_words
    words = []
    for number, difference in enumerate(contest):
        metric, verdict = label(difference.metric), difference.verdict
        if verdict in (NOT_SIGNIFICANT, NO_VERDICT):
            said = f"{verdict} in {metric}, {signed(difference.value)}"
            words.append(said if number else f"{first} and {second}: {said}")
        else:
            side = verdict if number else f"{first} is {verdict} {second}"
            words.append(f"{side} by {signed(abs(difference.value))[1:]} in {metric}")
        words[-1] += f" ({_uncertainty(difference)})"
    return "; ".join(words) + "."


def mostly_unreachable(evaluation: Result) -> bool:
    """Whether more than half of the test instances cannot be hit by anybody; a comparison would say little then."""
    return 2 * evaluation.num_unreachable > evaluation.protocol["num_users"]


def notes(evaluation: Result) -> list[str]:
    """What a reader has to know before the numbers, in sentences: test instances that nobody can hit, or one recommender too easily;
    users without a figure of their own."""
    if isinstance(evaluation, ClickEvaluation):
        return _notes_of_clicks(evaluation.protocol)
    unreachable, num_users = evaluation.num_unreachable, evaluation.protocol["num_users"]
    repeated = evaluation.slices.get("repeated_target", {"num_users": 0})["num_users"]
    if repeated and evaluation.protocol.get("task", {}).get("kind") == "candidates":
        return [
            f"{repeated:,} of {num_users:,} test instances ({100 * repeated / num_users:.0f} %) have a target that lies in the user's "
            "own history: of the candidates it alone was seen before, so whoever prefers seen items finds it."
        ]
    if not unreachable:
        return []
    counted = (
        f"{unreachable:,} of {num_users:,} test instances ({100 * unreachable / num_users:.0f} %) have a target that lies in the "
        "user's own history: with seen items filtered it cannot be hit."
    )
    if mostly_unreachable(evaluation):
        return [
            f"{counted} These are most, so no comparison is made. Where users come back to items, count them with --include-seen "
            "(exclude_seen: false in a task); a log that holds its events twice should be prepared from one copy."
        ]
    return [
        f"{counted} The metrics are given without these, too; --include-seen (exclude_seen: false in a task) counts them."
    ]


def _notes_of_clicks(protocol: dict) -> list[str]:
    left_out = protocol["gauc_users_left_out"]
    if not left_out:
        return []
    if not protocol["gauc_users"]:
        return [
            f"None of the {protocol['num_users']:,} users has examples of both answers, so there is no GAUC and no figure by user."
        ]
    return [
        f"{left_out:,} of {protocol['num_users']:,} users have examples of one answer only: they are left out of GAUC and of the "
        f"figures by user, which are of the other {protocol['gauc_users']:,}."
    ]


def label(metric: str) -> str:
    """A metric's name as a reader writes it: "NDCG@10"."""
    name, _, k = metric.partition("@")
    return f"{_LABELS.get(name, name.capitalize())}{'@' + k if k else ''}"


def _uncertainty(difference: Difference) -> str:
    parts = [f"{100 * difference.level:g} % interval {signed(difference.low)} to {signed(difference.high)}"]
    if difference.num_tests > 1 and not math.isnan(difference.adjusted_p):
        parts[0] += f", adjusted p {p_in_words(difference.adjusted_p)}"
    if seeds := difference.of_seeds:
        sides = [f"{word} 0 in {number}" for word in ("above", "below")
                 if (number := sum(each.verdict == word for each in seeds))]  # fmt: skip
        parts.append(
            f"by seed {', '.join(signed(each.value) for each in seeds)}, interval {' and '.join(sides) or 'above 0 in 0'} "
            f"of {len(seeds)}"
        )
    return "; ".join(parts)


def p_in_words(p: float) -> str:
    """A p-value to two digits: ".021", "below .0001"."""
    return "below .0001" if p < 1e-4 else f"{p:.2g}".removeprefix("0")


def signed(value: float) -> str:
    """A difference to four decimals with its sign: "+.0123"."""
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")
