"""One evaluation as one self-contained HTML file, and as JSON: verdicts, table, images, examples, protocol.

Item texts are data: the template escapes every value, and nothing is fetched from anywhere when the page is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import protocol_key, shown_name
from llmrec.evaluation.verdicts import contests, label, notes, signed, verdicts
from llmrec.files import write_text

COLUMNS = ("ndcg@10", "recall@10", "recall@20", "mrr@10", "coverage@10", "popularity_bias@10")


@dataclass(frozen=True)
class Example:
    """One user as a reader sees her: titles of the history, oldest first, of the ten recommended, and of the target."""

    user_id: str
    history: Sequence[str]
    recommended: Sequence[str]
    target: str


@dataclass(frozen=True, eq=False)
class Report:
    """What a report is made of.

    evaluations: one per recommender and protocol, in the order of the table's rows; the first one's protocol is the main
    one, others (without filtering, say) get tables of their own. facts: command, commit, seed, machine (`provenance`) and
    whatever else a reader asks for, such as "backbone". training: records of the training log. codes: int (N, L) with
    codebook_sizes, for the image of the semantic ids. Empty parts are left out of the page.
    """

    title: str
    summary: str
    evaluations: Sequence[Evaluation]
    facts: dict = field(default_factory=dict)
    training: Sequence[dict] = ()
    codes: np.ndarray | None = None
    codebook_sizes: Sequence[int] = ()
    examples: Sequence[Example] = ()


def to_json(report: Report) -> dict:
    """The report's numbers as JSON values: notes, verdicts, differences, evaluations, facts; floats in full."""
    main = _groups(report.evaluations)[0]
    return {
        "title": report.title,
        "notes": notes(main[0]),
        "verdicts": verdicts(main),
        "differences": [difference.to_json() for contest in contests(main) for difference in contest],
        "evaluations": [evaluation.to_json() for evaluation in report.evaluations],
        "facts": report.facts,
    }


def write_report(path: str | Path, report: Report) -> None:
    """Writes the page, whole or not at all. Raises LlmrecError where the file cannot be written."""
    # Here: tables and JSON need neither, and matplotlib is half the start of `llmrec eval`.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from llmrec.evaluation import figures

    environment = Environment(
        loader=PackageLoader("llmrec.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    groups = _groups(report.evaluations)
    main = groups[0]
    chosen = [metric for metric in ("ndcg@10",) if metric in main[0].metrics]
    page = environment.get_template("report.html.j2").render(
        report=report,
        notes=notes(main[0]),
        verdicts=verdicts(main),
        chart=[figures.intervals(m, [shown_name(e) for e in main], [e.metrics[m] for e in main]) for m in chosen],
        tables=[table for group in groups for table in _tables(group)],
        contests=_contest_rows(main),
        cold=_cold(main),
        training=figures.training_curve(report.training),
        codebooks=None if report.codes is None else figures.codebooks(report.codes, report.codebook_sizes),
        protocol=list(_flat(protocol_key(main[0]))),
        recommenders=[(shown_name(e), list(_flat(e.protocol["recommender"]))) for e in main],
        facts=list(_flat(report.facts)),
    )
    write_text(path, page)


def _groups(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations that may stand in one column, in order of first appearance."""
    groups: list[list[Evaluation]] = []
    for evaluation in evaluations:
        for group in groups:
            if protocol_key(group[0]) == protocol_key(evaluation):
                group.append(evaluation)
                break
        else:
            groups.append([evaluation])
    return groups


def _tables(group: Sequence[Evaluation]) -> list[dict]:
    """All test instances, and where some cannot be hit, those that can."""
    protocol = group[0].protocol
    tables = [_table(group, [e.metrics for e in group], f"{protocol['num_users']:,} users")]
    if group[0].num_unreachable:
        slices = [e.slices["new_target"] for e in group]
        if slices[0]["num_users"]:
            counted = f"the {slices[0]['num_users']:,} users whose target does not lie in their history"
            tables.append(_table(group, [each["metrics"] for each in slices], counted))
    return tables


def _table(group: Sequence[Evaluation], metrics: Sequence[dict], counted: str) -> dict:
    """caption, columns, rows of (name, cells); a cell is value, interval, whether it is the column's best. metrics: of each row."""
    columns = [metric for metric in COLUMNS if metric in metrics[0]]
    # Coverage and popularity bias have no best: more is not better for everybody.
    best = {m: max(own[m]["value"] for own in metrics) for m in columns if m.split("@")[0] in ("ndcg", "recall", "mrr")}
    rows = []
    for evaluation, own in zip(group, metrics, strict=True):
        cells = []
        for metric in columns:
            result = own[metric]
            is_signed = metric.startswith("popularity_bias")
            shown = [
                None if result[key] is None else _shown(result[key], is_signed) for key in ("value", "low", "high")
            ]
            cells.append({"value": shown[0], "low": shown[1], "high": shown[2],
                          "best": result["value"] == best.get(metric)})  # fmt: skip
        rows.append({"name": shown_name(evaluation), "cells": cells})
    protocol = group[0].protocol
    seen = "seen items filtered" if protocol["exclude_seen"] else "no filtering of seen items"
    caption = f"{counted}, {protocol['num_items']:,} items, {seen}, training events: {protocol['fit']}, {protocol['subset']} instances"
    return {"caption": caption, "columns": [label(metric) for metric in columns], "rows": rows}


def _contest_rows(group: Sequence[Evaluation]) -> list[dict]:
    return [
        {
            "pair": " − ".join(contest[0].in_words),
            "cells": [
                {"label": label(d.metric), "value": signed(d.value), "low": signed(d.low), "high": signed(d.high),
                 "verdict": d.verdict}
                for d in contest
            ],
        }
        for contest in contests(group)
    ]  # fmt: skip


def _cold(group: Sequence[Evaluation]) -> dict | None:
    """How everyone does on targets without a training event, or None where there are none."""
    first = group[0].slices["cold_target"]
    metric = "recall@10"
    if not first["num_users"] or metric not in first["metrics"]:
        return None
    protocol = group[0].protocol
    results = [(shown_name(e), e.slices["cold_target"]["metrics"][metric]) for e in group]
    return {
        "num_users": first["num_users"],
        "all_users": protocol["num_users"],
        "label": label(metric),
        "by_chance": _shown(10 / protocol["num_items"], False),
        "results": [
            (name, *(_shown(result[key], False) for key in ("value", "low", "high"))) for name, result in results
        ],
    }


def _shown(value: float, is_signed: bool) -> str:
    return signed(value) if is_signed else f"{value:.4f}".removeprefix("0")


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON values as (dotted key, words)."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(part) for part in value)
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, "none" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
