"""One evaluation as tables and pages need it, made from a result in memory or read back from results.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from llmrec import metrics
from llmrec.errors import DataError
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.results import ClickEvaluation, Result
from llmrec.evaluation.significance import OWN, paired_differences, shown_name
from llmrec.evaluation.verdicts import mostly_unreachable, shared_metrics
from llmrec.files import read_json

# Of which more is better, and of which less; of the rest neither.
UP = frozenset(("ndcg", "recall", "code_recall", "hit", "mrr", "map", "precision", "f1", "auc", "gauc", "accuracy"))
DOWN = frozenset(("logloss", "ece", "ece_equal_mass", "brier"))
FIRST = (
    "ndcg", "recall", "hit", "mrr", "map", "precision", "f1", "coverage", "gini", "novelty", "diversity", "popularity_bias",
)  # fmt: skip
_FILE = "results of an evaluation"
R = TypeVar("R", "Record", Result)


@dataclass(frozen=True, eq=False)
class Record:
    """name: as tables show it; protocol, metrics, slices, cost: as of a result; kind: "model", "baseline" or "hybrid".

    leads: metrics in which it is significantly better than every other record of its protocol, by paired differences; reliability:
    "scores", "liked", "counts" by bin, of clicks (`metrics.Reliability`); facts: command, commit, seed, machine, date.
    """

    name: str
    protocol: dict
    metrics: dict[str, dict]
    slices: dict[str, dict] = field(default_factory=dict)
    cost: Cost | None = None
    kind: str = "model"
    leads: frozenset[str] = frozenset()
    reliability: dict[str, list] | None = None
    facts: dict = field(default_factory=dict)

    @property
    def is_of_clicks(self) -> bool:
        """Whether it says how likely clicks are; else it ranks items."""
        return self.protocol["task"].get("kind") == "clicks"

    def to_json(self) -> dict[str, Any]:
        """What results.json holds of it; facts stand once for a file."""
        value: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "protocol": self.protocol,
            "metrics": self.metrics,
            "slices": self.slices,
            "leads": sorted(self.leads),
        }
        if self.cost is not None:
            value["cost"] = self.cost.to_json()
        return value if self.reliability is None else {**value, "reliability": self.reliability}

    @classmethod
    def from_json(cls, value: dict[str, Any], facts: dict) -> Record:
        """What `to_json` gave. Files of llmrec 0.1 have no names and leads: the card says the name, and nobody leads."""
        card = value["protocol"]["recommender"]
        return cls(
            name=value.get("name") or name_in_words(card),
            protocol=value["protocol"],
            metrics=value["metrics"],
            slices=value.get("slices", {}),
            cost=Cost.from_json(value["cost"]) if "cost" in value else None,
            kind=value.get("kind", "model"),
            leads=frozenset(value.get("leads", ())),
            reliability=value.get("reliability"),
            facts=facts,
        )


def records_of(results: Sequence[Result], facts: dict | None = None) -> list[Record]:
    """The records of results in memory, in their order, with who leads in what. facts: where they come from (`provenance`)."""
    leads: dict[int, frozenset[str]] = {}
    for group in groups_of(results):
        leads |= {id(result): names for result, names in zip(group, _leads(group), strict=True)}
    return [
        Record(
            shown_name(result), result.protocol, result.metrics, result.slices, result.cost, result.kind, leads[id(result)],
            _reliability(result), facts or {},
        )
        for result in results
    ]  # fmt: skip


def _leads(group: Sequence[Result]) -> list[frozenset[str]]:
    """Of each result the metrics in which it is better than every other one, each by a paired difference: all of these tests must
    say so, which needs no correction (Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982)."""
    leads: list[set[str]] = [set() for _ in group]
    if len(group) > 1 and not mostly_unreachable(group[0]):
        of: dict[int, list[str]] = {}
        for name in shared_metrics(group):
            if sign := better(name):
                values = [sign * result.metrics[name]["value"] for result in group]
                of.setdefault(values.index(max(values)), []).append(name)
        for row, names in of.items():
            pairs = [paired_differences(group[row], other, names) for other in group if other is not group[row]]
            for name, differences in zip(names, zip(*pairs, strict=True), strict=True):
                side = "above" if better(name) > 0 else "below"
                if all(difference.verdict == side for difference in differences):
                    leads[row].add(name)
    return [frozenset(names) for names in leads]


def _reliability(result: Result) -> dict[str, list] | None:
    if not isinstance(result, ClickEvaluation) or result.rows is None or not len(result.rows):
        return None
    points = metrics.reliability(result.rows.labels, result.rows.scores)
    return {name: getattr(points, name).tolist() for name in ("scores", "liked", "counts")}


def is_results(path: Path) -> bool:
    """Whether the JSON file holds evaluations, rather than something else that was measured."""
    return isinstance(read_json(path, _FILE).get("evaluations"), list)


def read_results(path: str | Path) -> list[Record]:
    """The evaluations of a results.json, or of what `llmrec eval --out x.json` wrote, in its order.

    Raises LlmrecError where the file cannot be read or is no JSON, DataError where it holds no evaluations.
    """
    value = read_json(path, _FILE)
    evaluations = value.get("evaluations")
    if not isinstance(evaluations, list) or not evaluations:
        raise DataError(
            f"'{path}' should hold 'evaluations', as `llmrec eval --out x.json` writes them, but it holds "
            f"{', '.join(sorted(value)[:5]) or 'nothing'}."
        )
    try:
        return [Record.from_json(each, value.get("facts", {})) for each in evaluations]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"an evaluation in '{path}' is not whole ({type(error).__name__}: {error}). Write the file again."
        ) from error


def protocol_of(result: Record | Result) -> dict:
    """What two of them must share to stand in one column."""
    return {key: value for key, value in result.protocol.items() if key not in OWN}


def groups_of(results: Sequence[R]) -> list[list[R]]:
    """Those that may stand in one column, in order of first appearance."""
    groups: list[list[R]] = []
    for result in results:
        for group in groups:
            if protocol_of(group[0]) == protocol_of(result):
                group.append(result)
                break
        else:
            groups.append([result])
    return groups


def shown_metrics(records: Sequence[Record]) -> list[str]:
    """The columns of a table of one protocol: of a ranking each metric at ten (recall at twenty, too), or at the longest list there is;
    of clicks all. Metrics that every record has; hit, precision and F1 of one target say what recall says, so they stay out."""
    names = [name for name in records[0].metrics if all(name in record.metrics for record in records)]
    if records[0].is_of_clicks:
        return names
    found = []
    repeated = ("hit", "precision", "f1") if any(name.startswith("recall@") for name in names) else ()
    for family in FIRST:
        if family in repeated:
            continue
        ks = [int(name.partition("@")[2]) for name in names if name.partition("@")[0] == family]
        wanted = [k for k in ((10, 20) if family == "recall" else (10,)) if k in ks] or ks[-1:]
        found += [f"{family}@{k}" for k in wanted]
    return found


def main_metric(records: Sequence[Record]) -> str:
    """What figures show first: AUC of clicks, else the first column."""
    names = shown_metrics(records)
    return "auc" if "auc" in names else names[0]


def better(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is."""
    family = metric.partition("@")[0]
    return 1 if family in UP else -1 if family in DOWN else 0


def asked_in_words(record: Record) -> str:
    """The protocol in one line: task, data, who was asked, among what, what was filtered, what was learned from."""
    protocol, split = record.protocol, record.protocol.get("split") or {}
    task, data = protocol["task"]["name"], protocol["data"]["name"] or "unnamed data"
    if record.is_of_clicks:
        return (
            f"{task} on {data}: {protocol['num_rows']:,} {protocol['subset']} examples of {protocol['num_users']:,} users (GAUC: of "
            f"{protocol['gauc_users']:,} who have both answers){_rows_in_words(split)}"
        )
    among = f"all {protocol['num_items']:,} items" if protocol["candidates"] == "all" else protocol["candidates"]
    seen = "seen items filtered" if protocol["exclude_seen"] else "no filtering of seen items"
    ties = (protocol.get("ties") or {}).get("time") or {}
    order = f", equal times: {ties['policy']}" if ties.get("policy") else ""
    asked = f"{protocol['num_users']:,} {protocol['subset']} users, {among}, {seen}"
    of_users = f" of {split['max_train_users']['users']:,} users" if "max_train_users" in split else ""
    return f"{task} on {data}: {asked}, training events: {protocol['fit']}{of_users}{order}"


def _rows_in_words(split: dict[str, Any]) -> str:
    """What a click model learned from, where the protocol counts it."""
    rows = split.get("parts", {}).get("train", {}).get("rows")
    if rows is None:
        return ""
    sampled = f"{split['train_rows']['sampled']:,} of " if "train_rows" in split else ""
    return f", learned from {sampled}{rows:,} training rows"


def flat(values: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON values as (dotted key, words)."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(part) for part in value)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, "none" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
