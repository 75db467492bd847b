"""What `llmrec eval` shows: one JSON object, tables with intervals, a report with examples."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import name_of
from llmrec.evaluation.tasks import Task
from llmrec.evaluation.verdicts import METRICS, contests, label, notes, verdicts
from llmrec.files import write_json
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import Ranker, Requests
from llmrec.terminal import printable

NUM_EXAMPLES = 3
SIDE_BY_SIDE = ("ndcg@10", "recall@10", "mrr@10", "coverage@10")  # what 80 columns hold; the report has more


def as_json(evaluations: list[Evaluation]) -> dict:
    """`protocol`, `metrics`, `slices`, `notes` of the first; with more than one also `baselines`, `hybrid` and `differences`."""
    first, *others = evaluations
    value = {**first.to_json(), "notes": notes(first)}
    if others:
        named = {name_of(other): other.to_json() for other in others}
        value["hybrid"] = named.pop(Hybrid.name, None)
        value["baselines"] = named
        pairs = contests(evaluations, _contested(first))
        value["differences"] = [difference.to_json() for pair in pairs for difference in pair]
    return value


def _contested(evaluation: Evaluation) -> list[str]:
    """The metrics that recommenders are compared by, of those the task counts."""
    return [name for name in METRICS if name in evaluation.metrics]


def print_tables(evaluations: list[Evaluation]) -> None:
    """All metrics of one recommender, or the chosen ones of several side by side, then what the differences say."""
    console = Console(highlight=False)
    first = evaluations[0]
    protocol = first.protocol
    seen = "excluded" if protocol["exclude_seen"] else "kept"
    caption = (
        f"{protocol['task']['name']}, {protocol['subset']} cases of {protocol['num_users']:,} users, "
        f"{protocol['num_items']:,} items, seen items {seen}, fit {protocol['fit']}; "
        f"{100 * protocol['interval']['level']:g} % intervals over users"
    )
    console.print(_table(evaluations, [evaluation.metrics for evaluation in evaluations], caption))
    for note in notes(first):
        console.print(note, markup=False, soft_wrap=True)
    if first.num_unreachable and (num_new := first.slices["new_target"]["num_users"]):
        metrics = [evaluation.slices["new_target"]["metrics"] for evaluation in evaluations]
        console.print(_table(evaluations, metrics, f"without them: the {num_new:,} users whose target is new to them"))
    for verdict in verdicts(evaluations, _contested(first)) if len(evaluations) > 1 else ():
        console.print(verdict, markup=False, soft_wrap=True)


def _table(evaluations: list[Evaluation], metrics: list[dict[str, dict]], caption: str) -> Table:
    """One recommender's metrics below one another, several recommenders' side by side. metrics: of each."""
    if len(evaluations) == 1:
        table = Table(title=Text(name_of(evaluations[0])), caption=Text(caption), caption_justify="left")
        for heading, side in (("metric", "left"), ("value", "right"), ("interval", "right")):
            table.add_column(heading, justify=side)
        for name, result in metrics[0].items():
            table.add_row(label(name), *_shown(result))
        return table
    table = Table(caption=Text(caption), caption_justify="left")
    table.add_column("")
    columns = [name for name in SIDE_BY_SIDE if name in metrics[0]]
    for name in columns:
        table.add_column(label(name), justify="right")
    for evaluation, own in zip(evaluations, metrics, strict=True):
        table.add_row(Text(name_of(evaluation)), *("\n".join(_shown(own[name], "-")) for name in columns))
    return table


def _shown(result: dict, between: str = " to ") -> tuple[str, str]:
    """The value and its interval, where there is one."""
    if result["value"] is None:
        return "no users", ""
    interval = "" if result["low"] is None else f"{result['low']:.4f}{between}{result['high']:.4f}"
    return f"{result['value']:.4f}", interval


def examples(ranker: Ranker, data: Data, split: Split, task: Task, subset: str) -> list[Example]:
    """The first users' histories and what they are recommended."""
    cases = split.valid if subset == "valid" else split.test
    requests = Requests.from_cases(cases).take(np.arange(min(NUM_EXAMPLES, len(cases))))
    ranking = ranker.rank(requests, 10, exclude_seen=task.exclude_seen)

    def titles(items: np.ndarray) -> list[str]:
        return [printable(data.catalog.title(item)) for item in items if item >= 0]

    return [
        Example(
            user_id=data.user_ids[int(cases.users[row])],
            history=titles(requests.histories[row][-10:]),
            recommended=titles(ranking.items[row]),
            target=printable(data.catalog.title(cases.targets[row])),
        )
        for row in range(len(requests))
    ]


def save_report(out: Path, evaluations: list[Evaluation], log: Path | None, shown: list[Example]) -> None:
    """Writes the page or, by its ending, the JSON file. log: the training log, where there is one."""
    training = []
    if log is not None and log.is_file():
        from llmrec.training.checkpoints import read_log

        training = read_log(log)
    protocol = evaluations[0].protocol
    report = Report(
        f"{name_of(evaluations[0])} on {protocol['data']['name'] or 'unnamed data'}",
        f"{protocol['num_users']:,} users were asked by the task {protocol['task']['name']}.",
        evaluations,
        facts=provenance(f"llmrec {shlex.join(sys.argv[1:])}", protocol["interval"]["seed"]),
        training=training,
        examples=shown,
    )
    if out.suffix == ".json":
        write_json(out, to_json(report))
    else:
        write_report(out, report)
