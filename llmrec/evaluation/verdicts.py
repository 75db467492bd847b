"""What the paired differences say, in words: each with its interval, and whether that holds 0. No opinions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import NOT_SIGNIFICANT, Difference, paired_differences

METRICS = ("ndcg@10", "recall@10")
_LABELS = {
    "ndcg": "NDCG", "recall": "Recall", "hit": "Hit", "mrr": "MRR", "popularity_bias": "Popularity bias", "auc": "AUC", "gauc": "GAUC",
    "logloss": "Log loss",
}  # fmt: skip


def contests(evaluations: Sequence[Evaluation], metrics: Sequence[str] = METRICS) -> list[list[Difference]]:
    """Every model against every baseline and the models after it, the hybrid against all others: for each pair a list of differences,
    one per metric."""
    baselines, models, hybrids = (
        [evaluation for evaluation in evaluations if evaluation.kind == kind]
        for kind in ("baseline", "model", "hybrid")
    )
    pairs = [(model, other) for model in models for other in baselines]
    pairs += combinations(models, 2)
    pairs += [(hybrid, other) for hybrid in hybrids for other in (*baselines, *models)]
    return [paired_differences(first, second, metrics) for first, second in pairs]


def verdicts(evaluations: Sequence[Evaluation], metrics: Sequence[str] = METRICS) -> list[str]:
    """One sentence per pair of `contests`. None where most test instances cannot be hit: `notes` says so."""
    if mostly_unreachable(evaluations[0]):
        return []
    return [sentence(contest) for contest in contests(evaluations, metrics)]


def sentence(contest: Sequence[Difference]) -> str:
    """The differences of one pair in words: "A − EASE-R: NDCG@10 +.0210 (95 % interval +.0101 to +.0317); Recall@10 ..."."""
    first, second = contest[0].in_words
    return f"{first} − {second}: " + "; ".join(_worded(difference) for difference in contest) + "."


def mostly_unreachable(evaluation: Evaluation) -> bool:
    """Whether more than half of the test instances cannot be hit by anybody; a comparison would say little then."""
    return 2 * evaluation.num_unreachable > evaluation.protocol["num_users"]


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader has to know before the numbers, in sentences: test instances that nobody can hit."""
    unreachable, num_users = evaluation.num_unreachable, evaluation.protocol["num_users"]
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


def label(metric: str) -> str:
    """A metric's name as a reader writes it: "NDCG@10"."""
    name, _, k = metric.partition("@")
    return f"{_LABELS.get(name, name.capitalize())}{'@' + k if k else ''}"


def _worded(difference: Difference) -> str:
    parts = [f"{100 * difference.level:g} % interval {signed(difference.low)} to {signed(difference.high)}"]
    if difference.verdict == NOT_SIGNIFICANT:
        parts[0] += f": {NOT_SIGNIFICANT}"
    if seeds := difference.of_seeds:
        sides = [f"{word} 0 in {number}" for word in ("above", "below")
                 if (number := sum(each.verdict == word for each in seeds))]  # fmt: skip
        parts.append(
            f"by seed {', '.join(signed(each.value) for each in seeds)}, interval {' and '.join(sides) or 'above 0 in 0'} "
            f"of {len(seeds)}"
        )
    return f"{label(difference.metric)} {signed(difference.value)} ({'; '.join(parts)})"


def signed(value: float) -> str:
    """A difference to four decimals with its sign: "+.0123"."""
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")
