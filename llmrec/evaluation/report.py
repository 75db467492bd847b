"""Evaluations as one self-contained HTML file, and as JSON: by protocol verdicts, tables with cost, images, examples, protocol.

Item texts are data: the template escapes every value, and nothing is fetched from anywhere when the page is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.evaluation.records import (
    Record,
    asked_in_words,
    flat,
    groups_of,
    main_metric,
    protocol_of,
    records_of,
    shown_metrics,
)
from llmrec.evaluation.results import Result
from llmrec.evaluation.significance import Difference
from llmrec.evaluation.tables import cell_of, number, table_of
from llmrec.evaluation.verdicts import contests, in_sentences, label, mostly_unreachable, notes, signed
from llmrec.files import write_text

if TYPE_CHECKING:
    from llmrec.evaluation.figures import ThemedImage

LEAST = 30  # users of a slice that has a figure
NUM_CALIBRATED = 9  # panels


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

    evaluations: rankings, candidates and clicks alike, in the order of the tables' rows; each protocol gets a part of its own, the
    first one's first. facts: command, commit, seed, machine (`provenance`) and whatever else a reader asks for, such as "backbone".
    training: by name the records of a training log. codes: int (N, L) with codebook_sizes, for the image of the semantic ids.
    position_bias: by name what a model that was asked to choose does with shuffled candidates (`asked.choose.position_bias`). Empty
    parts are left out of the page.
    """

    title: str
    summary: str
    evaluations: Sequence[Result]
    facts: dict = field(default_factory=dict)
    training: Mapping[str, Sequence[dict]] = field(default_factory=dict)
    codes: np.ndarray | None = None
    codebook_sizes: Sequence[int] = ()
    examples: Sequence[Example] = ()
    position_bias: Mapping[str, dict] = field(default_factory=dict)


def to_json(report: Report) -> dict:
    """The report's numbers as JSON values, which `records.read_results` reads back: notes, verdicts and differences of every protocol,
    evaluations, facts; floats in full."""
    groups = groups_of(report.evaluations)
    tested = [contests(group) for group in groups]
    value = {
        "title": report.title,
        "notes": [note for group in groups for note in notes(group[0])],
        "verdicts": [said for group, own in zip(groups, tested, strict=True) for said in _verdicts(group, own)],
        "differences": [each.to_json() for own in tested for contest in own for each in contest],
        "evaluations": [record.to_json() for record in records_of(report.evaluations)],
        "facts": report.facts,
    }
    return value | ({"position_bias": dict(report.position_bias)} if report.position_bias else {})


def write_report(path: str | Path, report: Report) -> None:
    """Writes the page, whole or not at all. Raises LlmrecError where the file cannot be written."""
    # Here: tables and JSON need neither, and matplotlib is half the start of `llmrec eval`.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from llmrec.evaluation import figures

    environment = Environment(
        loader=PackageLoader("llmrec.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    records = iter(records_of(report.evaluations))
    of_result = {id(result): next(records) for result in report.evaluations}
    page = environment.get_template("report.html.j2").render(
        report=report,
        parts=[_part(group, [of_result[id(result)] for result in group]) for group in groups_of(report.evaluations)],
        training=[(name, drawn) for name, log in report.training.items() if (drawn := figures.training_curve(log))],
        positions=figures.position_bias(report.position_bias) if report.position_bias else None,
        codebooks=None if report.codes is None else figures.codebooks(report.codes, report.codebook_sizes),
        facts=list(flat(report.facts)),
    )
    write_text(path, page)


def _verdicts(results: Sequence[Result], tested: Sequence[Sequence[Difference]]) -> list[str]:
    return [] if mostly_unreachable(results[0]) else in_sentences(tested)


def _part(results: Sequence[Result], records: Sequence[Record]) -> dict:
    """What the page says of one protocol."""
    tables, tested = [table_of(records)], contests(results)
    if results[0].num_unreachable and (num_new := results[0].slices["new_target"]["num_users"]):
        told = f"the {num_new:,} users whose target does not lie in their history"
        tables.append(replace(table_of(of_slice(records, "new_target")), caption=told))
    return {
        "heading": asked_in_words(records[0]).partition(":")[0],
        "notes": notes(results[0]),
        "verdicts": _verdicts(results, tested),
        "drawings": list(_drawings(records)),
        "tables": tables,
        "contests": _contest_rows(tested),
        "cold": _cold(records),
        "protocol": list(flat(protocol_of(records[0]))),
        "recommenders": [(record.name, list(flat(record.protocol["recommender"]))) for record in records],
    }


def of_slice(records: Sequence[Record], name: str) -> list[Record]:
    """The same recommenders on the users of a slice; nobody leads, for no difference was tested there."""
    return [replace(r, metrics=r.slices[name]["metrics"], slices={}, leads=frozenset(), cost=None) for r in records]


def _drawings(records: Sequence[Record]) -> Iterator[tuple[ThemedImage, str]]:
    """Figures of one protocol with their captions."""
    from llmrec.evaluation import figures

    metric, names = main_metric(records), [record.name for record in records]
    yield (
        figures.intervals(metric, names, [record.metrics[metric] for record in records]),
        "Value and interval over users. Compare two recommenders by their paired difference below, not by overlap.",
    )
    timed = [
        r for r in records if r.cost and r.cost.latency_ms_single_median and r.metrics[metric]["value"] is not None
    ]
    if len(timed) > 1:
        yield (
            figures.against_latency(
                metric, [r.name for r in timed], [r.cost.latency_ms_single_median for r in timed],
                [r.metrics[metric]["value"] for r in timed],
            ),
            "Accuracy against the time of one request. On the line, the Pareto front, nobody is both faster and better.",
        )  # fmt: skip
    said = [record for record in records if record.reliability]
    if said:
        more = f" The first {NUM_CALIBRATED} of {len(said)} are drawn." if len(said) > NUM_CALIBRATED else ""
        said = said[:NUM_CALIBRATED]
        yield (
            figures.calibration([record.name for record in said], [record.reliability for record in said]),
            "Calibration: on the dashed line a score of .7 is liked seven times in ten; a dot's area is its share of the examples."
            + more,
        )
    bias = next((name for name in shown_metrics(records) if name.startswith("popularity_bias")), None)
    if bias is not None:
        yield (
            figures.intervals(bias, names, [record.metrics[bias] for record in records]),
            "Popularity bias: at the line lists are as popular as the user's history, right of it the popular is pushed.",
        )
    slices = _sliced(records, metric)
    if slices:
        yield (
            figures.in_slices(metric, names, slices),
            f"Slices of at least {LEAST} users, with intervals over their users.",
        )


def _sliced(records: Sequence[Record], metric: str) -> list[tuple[str, list[dict]]]:
    """Slices that are neither small nor everybody: name and number of users, and each record's result."""
    total = records[0].protocol["num_users"]
    found = []
    for name, first in records[0].slices.items():
        if LEAST <= first["num_users"] < total or (first["num_users"] == total and "num_rows" in first):
            results = [record.slices[name]["metrics"].get(metric) for record in records if name in record.slices]
            if len(results) == len(records) and all(result and result["value"] is not None for result in results):
                found.append((f"{name.replace('_', ' ')}: {first['num_users']:,} users", results))
    return found


def _contest_rows(tested: Sequence[Sequence[Difference]]) -> list[dict]:
    return [
        {
            "pair": " − ".join(contest[0].in_words),
            "cells": [
                {"label": label(d.metric), "value": signed(d.value), "low": signed(d.low), "high": signed(d.high),
                 "verdict": d.verdict}
                for d in contest
            ],
        }
        for contest in tested
    ]  # fmt: skip


def _cold(records: Sequence[Record]) -> dict | None:
    """How everyone does on targets without a training event, or None where there are none."""
    first, metric = records[0].slices.get("cold_target"), "recall@10"
    if records[0].is_of_clicks or not first or not first["num_users"] or metric not in first["metrics"]:
        return None
    protocol = records[0].protocol
    return {
        "num_users": first["num_users"],
        "all_users": protocol["num_users"],
        "label": label(metric),
        "by_chance": number(10 / protocol["num_items"], metric) if protocol["candidates"] == "all" else None,
        "results": [(r.name, cell_of(r.slices["cold_target"]["metrics"][metric], metric)) for r in records],
    }
