"""What `llmrec eval` shows: one JSON object, tables with intervals, a report with examples."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.results import Evaluation
from llmrec.evaluation.saved import save_results
from llmrec.evaluation.significance import NOT_SIGNIFICANT, name_of, paired_differences, shown_name
from llmrec.evaluation.verdicts import METRICS, contests, label, notes, signed, verdicts
from llmrec.recommenders.hybrid import Hybrid

NUM_EXAMPLES = 3
SIDE_BY_SIDE = ("ndcg@10", "recall@10", "mrr@10", "coverage@10")  # what 80 columns hold; the report has more


def as_json(evaluations: list[Evaluation], against: Evaluation | None = None) -> dict:
    """`protocol`, `metrics`, `slices`, `notes` of the first; with more than one also `baselines`, `hybrid` and `differences`; with the
    other side of a paired test `against` and `paired`, the differences of every metric."""
    first, *others = evaluations
    value = {**first.to_json(), "notes": notes(first)}
    if others:
        named = {name_of(other): other.to_json() for other in others}
        value["hybrid"] = named.pop(Hybrid.name, None)
        value["baselines"] = named
        pairs = contests(evaluations, _contested(first))
        value["differences"] = [difference.to_json() for pair in pairs for difference in pair]
    if against is not None:
        value["against"] = against.to_json()
        value["paired"] = [each.to_json() for each in paired_differences(first, against, list(first.per_user))]
    return value


def ties_as_json(found: tuple[Evaluation, Evaluation]) -> dict:
    """The result under both orders, and how many ties there are."""
    return {
        "ties": {each.protocol["ties"]["time"]["policy"]: {**each.to_json(), "notes": notes(each)} for each in found},
        "counts": _tie_counts(found[0]),
    }


def print_ties(found: tuple[Evaluation, Evaluation]) -> None:
    """Every metric under both orders of events of one moment."""
    console, protocol = Console(highlight=False), found[0].protocol
    counts = _tie_counts(found[0])
    caption = (
        f"{protocol['task']['name']}, {protocol['num_users']:,} users; {counts['tied_events']:,} events are at the time of the user's "
        f"one before, {counts['users_with_tied_last_event']:,} users have such a last event. Fitted and asked anew under each "
        f"order, shuffled by seed {found[1].protocol['ties']['time']['seed']}"
    )
    table = Table(title=Text(shown_name(found[0])), caption=Text(caption), caption_justify="left")
    for heading in ("metric", "file's order", "interval", "shuffled", "interval"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in found[0].metrics:
        table.add_row(label(name), *(cell for each in found for cell in _shown(each.metrics[name], "-")))
    console.print(table)
    for each in found:
        for note in notes(each):
            console.print(f"ties {each.protocol['ties']['time']['policy']}: {note}", markup=False, soft_wrap=True)


def _tie_counts(evaluation: Evaluation) -> dict[str, int]:
    counts = evaluation.protocol["data"]["counts"]
    return {name: counts[name] for name in ("tied_events", "users_with_tied_last_event")}


def _contested(evaluation: Evaluation) -> list[str]:
    """The metrics that recommenders are compared by, of those the task counts."""
    return [name for name in METRICS if name in evaluation.metrics]


def print_tables(evaluations: list[Evaluation], against: Evaluation | None = None) -> None:
    """All metrics of one recommender, or the chosen ones of several side by side, then what the differences say; of a paired test
    every metric of both sides with its difference."""
    console = Console(highlight=False)
    first = evaluations[0]
    protocol = first.protocol
    seen = "seen items filtered" if protocol["exclude_seen"] else "no filtering of seen items"
    caption = (
        f"{protocol['task']['name']}, {protocol['subset']} instances of {protocol['num_users']:,} users, "
        f"{protocol['num_items']:,} items, {seen}, training events: {protocol['fit']}; "
        f"{100 * protocol['interval']['level']:g} % intervals over users"
    )
    if against is None or len(evaluations) > 1:
        console.print(_table(evaluations, [evaluation.metrics for evaluation in evaluations], caption))
    for evaluation in evaluations:
        if evaluation.of_seeds:
            console.print(_seed_table(evaluation))
    for note in notes(first):
        console.print(note, markup=False, soft_wrap=True)
    if first.num_unreachable and (num_new := first.slices["new_target"]["num_users"]):
        metrics = [evaluation.slices["new_target"]["metrics"] for evaluation in evaluations]
        console.print(_table(evaluations, metrics, f"without them: the {num_new:,} users whose target is new to them"))
    for verdict in verdicts(evaluations, _contested(first)) if len(evaluations) > 1 else ():
        console.print(verdict, markup=False, soft_wrap=True)
    if against is not None:
        console.print(_paired_table(first, against, caption))


def _seed_table(evaluation: Evaluation) -> Table:
    """The chosen metrics by seed, with mean and standard deviation."""
    seeds = evaluation.protocol["recommender"]["seeds"]
    table = Table(title=Text(f"{shown_name(evaluation)} by seed; std: of one run"), title_justify="left")
    for heading in ("metric", "mean", "std", *(f"seed {seed}" for seed in seeds)):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in SIDE_BY_SIDE:
        if name in evaluation.metrics:
            result = evaluation.metrics[name]
            table.add_row(
                label(name), *(f"{value:.4f}" for value in (result["value"], result["std"], *result["seeds"]))
            )
    return table


def _paired_table(first: Evaluation, second: Evaluation, caption: str) -> Table:
    """Every metric that is a mean over users, of both sides, with the paired difference and its interval."""
    table = Table(
        title=Text(f"A = {shown_name(first)}\nB = {shown_name(second)}"), title_justify="left",
        caption=Text(f"{caption}; paired, on the same users. n.s.: {NOT_SIGNIFICANT}, the interval holds 0"),
        caption_justify="left",
    )  # fmt: skip
    for heading in ("metric", "A", "B", "A − B", "interval", ""):
        table.add_column(heading, justify="left" if heading in ("metric", "") else "right")
    for difference in paired_differences(first, second, list(first.per_user)):
        values = [f"{side.metrics[difference.metric]['value']:.4f}" for side in (first, second)]
        interval = f"{signed(difference.low)} to {signed(difference.high)}"
        significance = "n.s." if difference.verdict == NOT_SIGNIFICANT else difference.verdict
        table.add_row(label(difference.metric), *values, signed(difference.value), interval, significance)
    return table


def _table(evaluations: list[Evaluation], metrics: list[dict[str, dict]], caption: str) -> Table:
    """One recommender's metrics below one another, several recommenders' side by side. metrics: of each."""
    if len(evaluations) == 1:
        table = Table(title=Text(shown_name(evaluations[0])), caption=Text(caption), caption_justify="left")
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
        table.add_row(Text(shown_name(evaluation)), *("\n".join(_shown(own[name], "-")) for name in columns))
    return table


def _shown(result: dict, between: str = " to ") -> tuple[str, str]:
    """The value and its interval, where there is one."""
    if result["value"] is None:
        return "no users", ""
    interval = "" if result["low"] is None else f"{result['low']:.4f}{between}{result['high']:.4f}"
    return f"{result['value']:.4f}", interval


def save_report(out: Path, evaluations: list[Evaluation], log: Path | None, shown: list[Example]) -> None:
    """Writes the page or, by its ending, the JSON file. log: the training log, where there is one."""
    training = []
    if log is not None and log.is_file():
        from llmrec.training.checkpoints import read_log

        training = read_log(log)
    protocol = evaluations[0].protocol
    report = Report(
        f"{shown_name(evaluations[0])} on {protocol['data']['name'] or 'unnamed data'}",
        f"{protocol['num_users']:,} users were asked by the task {protocol['task']['name']}.",
        evaluations,
        facts=provenance(f"llmrec {shlex.join(sys.argv[1:])}", protocol["interval"]["seed"]),
        training={shown_name(evaluations[0]): training},
        examples=shown,
    )
    if out.suffix == ".json":
        save_results(out, to_json(report), evaluations)
    else:
        write_report(out, report)
