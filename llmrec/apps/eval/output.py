"""What `llmrec eval` shows: one JSON object, tables with intervals, a report with examples."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.evaluation.cost import Cost
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.records import records_of
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.results import ClickEvaluation, Result
from llmrec.evaluation.saved import save_results
from llmrec.evaluation.significance import NOT_SIGNIFICANT, name_of, paired_differences, shown_name
from llmrec.evaluation.tables import COSTS, SUFFIXES, cost_in_words, write_tables
from llmrec.evaluation.verdicts import contests, judged_by, label, notes, shared_metrics, signed, verdicts
from llmrec.recommenders.hybrid import Hybrid

NUM_EXAMPLES = 3
LOG = "training_log.jsonl"
SIDE_BY_SIDE = ("ndcg@10", "recall@10", "mrr@10", "coverage@10")  # what 80 columns hold; the report has more
CLICKS_SIDE_BY_SIDE = ("auc", "gauc", "logloss", "ece")


def as_json(evaluations: Sequence[Result], against: Result | None = None) -> dict:
    """`protocol`, `metrics`, `slices`, `cost`, `notes` of the first; with more than one also `baselines`, `hybrid` and `differences`;
    with the other side of a paired test `against` and `paired`, the differences of every metric."""
    first, *others = evaluations
    value = {**first.to_json(), "notes": notes(first)}
    if others:
        named = {name_of(other): other.to_json() for other in others}
        value["hybrid"] = named.pop(Hybrid.name, None)
        value["baselines"] = named
        names = shared_metrics(evaluations) if isinstance(first, ClickEvaluation) else judged_by(first)
        value["differences"] = [difference.to_json() for pair in contests(evaluations, names) for difference in pair]
    if against is not None:
        value["against"] = against.to_json()
        value["paired"] = [
            each.to_json() for each in paired_differences(first, against, shared_metrics([first, against]))
        ]
    return value


def ties_as_json(found: tuple[Result, Result]) -> dict:
    """The result under both orders, and how many ties there are."""
    return {
        "ties": {each.protocol["ties"]["time"]["policy"]: {**each.to_json(), "notes": notes(each)} for each in found},
        "counts": _tie_counts(found[0]),
    }


def print_ties(found: tuple[Result, Result]) -> None:
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


def _tie_counts(evaluation: Result) -> dict[str, int]:
    counts = evaluation.protocol["data"]["counts"]
    return {name: counts[name] for name in ("tied_events", "users_with_tied_last_event")}


def print_tables(evaluations: Sequence[Result], against: Result | None = None) -> None:
    """All metrics of one recommender, or the chosen ones of several side by side, what they cost, then what the differences say; of a
    paired test every metric of both sides with its difference."""
    console = Console(highlight=False)
    first = evaluations[0]
    caption = _caption(first)
    if against is None or len(evaluations) > 1:
        console.print(_table(evaluations, [evaluation.metrics for evaluation in evaluations], caption))
    for evaluation in evaluations:
        if evaluation.of_seeds:
            console.print(_seed_table(evaluation))
    if (costs := _cost_table(evaluations)) is not None:
        console.print(costs)
    for note in notes(first):
        console.print(note, markup=False, soft_wrap=True)
    if first.num_unreachable and (num_new := first.slices["new_target"]["num_users"]):
        metrics = [evaluation.slices["new_target"]["metrics"] for evaluation in evaluations]
        console.print(_table(evaluations, metrics, f"without them: the {num_new:,} users whose target is new to them"))
    for verdict in verdicts(evaluations) if len(evaluations) > 1 else ():
        console.print(verdict, markup=False, soft_wrap=True)
    if against is not None:
        console.print(_paired_table(first, against, caption))


def _caption(first: Result) -> str:
    """Who was asked what."""
    protocol = first.protocol
    level = f"{100 * protocol['interval']['level']:g} % intervals over users"
    if isinstance(first, ClickEvaluation):
        return (
            f"{protocol['task']['name']}, {protocol['num_rows']:,} {protocol['subset']} examples of {protocol['num_users']:,} users "
            f"(GAUC: of {protocol['gauc_users']:,} who have both answers); {level}"
        )
    seen = "seen items filtered" if protocol["exclude_seen"] else "no filtering of seen items"
    among = "" if protocol["candidates"] == "all" else f", {protocol['candidates']}"
    return (
        f"{protocol['task']['name']}, {protocol['subset']} instances of {protocol['num_users']:,} users, "
        f"{protocol['num_items']:,} items{among}, {seen}, training events: {protocol['fit']}; {level}"
    )


def _side_by_side(first: Result) -> list[str]:
    """The metrics that several are shown by."""
    chosen = CLICKS_SIDE_BY_SIDE if isinstance(first, ClickEvaluation) else SIDE_BY_SIDE
    return [name for name in chosen if name in first.metrics]


def _cost_table(evaluations: Sequence[Result]) -> Table | None:
    """What answering and training cost, a row each: eight columns fit into 80 characters or so. None where nothing was measured."""
    costs = [each.cost or Cost() for each in evaluations]
    names = [name for name in COSTS if any(getattr(cost, name) is not None for cost in costs)]
    if not names:
        return None
    table = Table(
        title=Text("cost, on " + " and ".join(sorted({cost.device for cost in costs if cost.device}))),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", justify="left")
    cells = {name: [cost_in_words(cost, name) for cost in costs] for name in names}
    for name, column in cells.items():  # as narrow as whole words allow; the names fold
        table.add_column(COSTS[name], justify="right", width=max(map(len, [*COSTS[name].split(), *column])))
    for evaluation, *row in zip(evaluations, *cells.values(), strict=True):
        table.add_row(Text(shown_name(evaluation)), *row)
    return table


def _seed_table(evaluation: Result) -> Table:
    """The chosen metrics by seed, with mean and standard deviation."""
    seeds = evaluation.protocol["recommender"]["seeds"]
    table = Table(title=Text(f"{shown_name(evaluation)} by seed; std: of one run"), title_justify="left")
    for heading in ("metric", "mean", "std", *(f"seed {seed}" for seed in seeds)):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in _side_by_side(evaluation):
        result = evaluation.metrics[name]
        table.add_row(label(name), *(f"{value:.4f}" for value in (result["value"], result["std"], *result["seeds"])))
    return table


def _paired_table(first: Result, second: Result, caption: str) -> Table:
    """Every metric that is a mean over users, of both sides, with the paired difference and its interval."""
    table = Table(
        title=Text(f"A = {shown_name(first)}\nB = {shown_name(second)}"), title_justify="left",
        caption=Text(f"{caption}; paired, on the same users. n.s.: {NOT_SIGNIFICANT}, the interval holds 0"),
        caption_justify="left",
    )  # fmt: skip
    for heading in ("metric", "A", "B", "A − B", "interval", ""):
        table.add_column(heading, justify="left" if heading in ("metric", "") else "right")
    for difference in paired_differences(first, second, shared_metrics([first, second])):
        values = [f"{side.metrics[difference.metric]['value']:.4f}" for side in (first, second)]
        interval = f"{signed(difference.low)} to {signed(difference.high)}"
        significance = "n.s." if difference.verdict == NOT_SIGNIFICANT else difference.verdict
        table.add_row(label(difference.metric), *values, signed(difference.value), interval, significance)
    return table


def _table(evaluations: Sequence[Result], metrics: list[dict[str, dict]], caption: str) -> Table:
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
    columns = _side_by_side(evaluations[0])
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


def print_choices(choices: Mapping[str, Any]) -> None:
    """What a language model as it is did with lists in several orders, and wrote freely (`choices_of`)."""
    if bias := choices.get("position_bias"):
        by_place = ", ".join(f"{share:.2f}" for share in bias["first_choice_by_position"])
        typer.echo(
            f"In {bias['orders']} orders of the same candidates ({bias['instances']:,} users) another order changed the choice in "
            f"{100 * bias['changed']:.0f} %; by place it chose {by_place}."
        )
    if free := choices.get("free_text"):
        typer.echo(
            f"Written freely, of {free['answers']:,} answers {free['valid']:,} were valid, {free['repeated']:,} repeated the history "
            f"or the list, {free['none']:,} named no item; under constraint all are items."
        )


def save_report(
    out: Path,
    evaluations: Sequence[Result],
    runs: Sequence[Path],
    shown: Sequence[Example],
    choices: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page or, by its ending, the JSON file, or tables as Markdown or LaTeX. runs: whose training logs are drawn; choices:
    see `print_choices`."""
    choices, name = choices or {}, shown_name(evaluations[0])
    free = {"free text": choices["free_text"]} if "free_text" in choices else {}
    protocol = evaluations[0].protocol
    report = Report(
        f"{name} on {protocol['data']['name'] or 'unnamed data'}",
        f"{protocol['num_users']:,} users were asked by the task {protocol['task']['name']}.",
        evaluations,
        facts={**provenance(f"llmrec {shlex.join(sys.argv[1:])}", protocol["interval"]["seed"]), **free},
        position_bias={name: choices["position_bias"]} if "position_bias" in choices else {},
        training=_logs(runs),
        examples=shown,
    )
    if out.suffix == ".json":
        save_results(out, to_json(report), evaluations)
    elif out.suffix in SUFFIXES:
        write_tables(out, [replace(record, facts=report.facts) for record in records_of(evaluations)])
    else:
        write_report(out, report)
    typer.echo(f"Wrote {out}.", err=True)


def _logs(runs: Sequence[Path]) -> dict[str, list[dict]]:
    """Training logs, by the names of their runs."""
    logs = {run.name: run / LOG for run in runs if (run / LOG).is_file()}
    if not logs:
        return {}
    from llmrec.training.checkpoints import read_log

    return {name: read_log(log) for name, log in logs.items()}
