"""What the paired differences say, in words: does the model beat popularity, does the hybrid beat every baseline?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import Difference, name_of, paired_differences
from llmrec.recommenders.baselines import BASELINES
from llmrec.recommenders.hybrid import Hybrid

METRICS = ("ndcg@10", "recall@10")
_LABELS = {"ndcg": "NDCG", "recall": "Recall", "hit": "Hit", "mrr": "MRR", "popularity_bias": "Popularity bias"}
_ALONE = {
    "open": " Alone it is hardly worth serving: a counter may do as well.",
    "no": " Alone it is not worth serving: a counter does better.",
}


@dataclass(frozen=True)
class Verdict:
    """One claim, whether it holds ("yes", "no", or "open" where an interval holds 0), and a sentence with the numbers."""

    claim: str
    holds: str
    sentence: str

    def to_json(self) -> dict:
        """The three fields."""
        return asdict(self)


def contests(evaluations: Sequence[Evaluation], metrics: Sequence[str] = METRICS) -> list[list[Difference]]:
    """Every model against every baseline, the hybrid against all others: one list of differences (a metric each) a pair.

    Baselines and the hybrid are known by their names; whatever else is there is a model.
    """
    baselines = [e for e in evaluations if name_of(e) in BASELINES]
    models = [e for e in evaluations if name_of(e) not in BASELINES and name_of(e) != Hybrid.name]
    hybrids = [e for e in evaluations if name_of(e) == Hybrid.name]
    pairs = [(model, other) for model in models for other in baselines]
    pairs += [(hybrid, other) for hybrid in hybrids for other in (*baselines, *models)]
    return [paired_differences(first, second, metrics) for first, second in pairs]


def verdicts(evaluations: Sequence[Evaluation], metrics: Sequence[str] = METRICS) -> list[Verdict]:
    """Up to three claims: a model beats popularity, a model beats every baseline, the hybrid beats every baseline.

    A claim holds when every named metric's interval lies above 0; it fails when one lies below.
    """
    found = []
    by_first: dict[str, list[list[Difference]]] = {}
    for contest in contests(evaluations, metrics):
        by_first.setdefault(contest[0].first, []).append(contest)
    for first, pairs in by_first.items():
        against = {pair[0].second: pair for pair in pairs if pair[0].second in BASELINES}
        if first == Hybrid.name:
            found.append(_against_all(first, against, {"open": "", "no": ""}))
            continue
        if "popularity" in against:
            found.append(_against_one(first, "popularity", against["popularity"]))
        counters = {name: pair for name, pair in against.items() if name != "popularity"}
        if counters:
            found.append(_against_all(first, counters, _ALONE))
    return found


def _holds(differences: Sequence[Difference]) -> str:
    words = {difference.verdict for difference in differences}
    return "yes" if words == {"above"} else "no" if "below" in words else "open"


def _against_one(first: str, other: str, pair: Sequence[Difference]) -> Verdict:
    holds = _holds(pair)
    opening = {
        "yes": f"{first} is clearly above {other}",
        "open": f"{first} is not clearly above {other}",
        "no": f"{first} is below {other}: it has learned nothing worth serving",
    }[holds]
    numbers = "; ".join(f"{label(d.metric)} {_numbers(d)}" for d in pair)
    return Verdict(f"{first} beats {other}", holds, f"{opening}. {numbers}.")


def _against_all(first: str, against: dict[str, list[Difference]], consequence: dict[str, str]) -> Verdict:
    holds = _holds([difference for pair in against.values() for difference in pair])
    claim = f"{first} beats {_listed(list(against))}"
    if holds == "yes":
        opening = f"{first} is clearly above {_listed(list(against))}."
    else:
        parts = []
        for word, phrase in (("yes", "clearly above"), ("open", "not clearly above"), ("no", "below")):
            names = [name for name, pair in against.items() if _holds(pair) == word]
            parts += [f"{phrase} {_listed(names)}"] if names else []
        opening = f"{first} is {_listed(parts)}.{consequence[holds]}"
    numbers = []
    for name, pair in against.items():
        # One metric says enough where all agree; where they do not, the reader needs the one that fails.
        shown = pair[:1] if _holds(pair) == "yes" else pair
        numbers.append(f"{name} " + ", ".join(f"{label(d.metric)} {_numbers(d)}" for d in shown))
    return Verdict(claim, holds, f"{opening} Against {'; '.join(numbers)}.")


def label(metric: str) -> str:
    """A metric's name as a reader writes it: "NDCG@10"."""
    name, _, k = metric.partition("@")
    return f"{_LABELS.get(name, name.capitalize())}{'@' + k if k else ''}"


def _numbers(difference: Difference) -> str:
    level = f"{100 * difference.level:g} %"
    return f"{signed(difference.value)} ({level} interval {signed(difference.low)} to {signed(difference.high)})"


def signed(value: float) -> str:
    """A difference to four places with its sign: "+.0123"."""
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
