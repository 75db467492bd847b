"""`llmrec suite`: a whole comparison from one file, cell by cell; what is finished is kept."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.options import AsJson
from llmrec.apps.output import print_json, print_table


def suite(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="recbench, smoke, or the path of a suite's .yaml file.")
    ],
    data: Annotated[Path, typer.Option(help="The prepared data folder that everything is measured on.")],
    out: Annotated[Path, typer.Option(help="Folder of cells, results.json and report.html.")],
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only cells whose name fits, such as 'click_*' or '*-0'.")
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--list", help="Say which cells are done, what they took, and what is left; measure nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure language models, baselines and CTR models on the same tasks; a killed suite goes on where it was.

    Each cell runs in a process of its own, one after another. One that fails is told of, the others go on, and the exit status is 1.

    \b
    Example:
      llmrec suite recbench --data data/microlens50k --out runs/recbench
      llmrec suite recbench --data data/microlens50k --out runs/recbench --list
      llmrec suite recbench --data data/microlens50k --out runs/recbench --only 'tuned_*-0'
    """
    from llmrec.data.folder import load_data
    from llmrec.evaluation.suite.layout import Layout
    from llmrec.evaluation.suite.run import chosen_cells, minutes_left, run_cells, statuses
    from llmrec.evaluation.suite.settings import load_suite
    from llmrec.evaluation.suite.summary import write_summary
    from llmrec.processes import only_one

    loaded, layout = load_suite(name), Layout(out)
    cells = chosen_cells(loaded, only)
    if show:
        layout.begin(loaded, load_data(data))
        found = statuses(loaded, layout, cells)
    else:
        with only_one(out):
            found = run_cells(loaded, load_data(data), layout, cells, lambda text: typer.echo(text, err=True))
            typed = ["llmrec", "suite", name, "--data", str(data), "--out", str(out)]
            everything = statuses(loaded, layout, list(loaded.expanded()))
            write_summary(loaded, everything, layout, shlex.join(typed))
    hours = sum(status.cpu_minutes or 0 for status in found) / 60
    left = minutes_left(found)
    value = {
        "suite": loaded.name,
        "cells": [status.to_json() for status in found],
        "cpu_hours": hours,
        "cpu_hours_left": None if left is None else left / 60,
    }
    if as_json:
        print_json(value)
    else:
        rows = [(each.cell.name, each.problem or each.state, _minutes(each.cpu_minutes)) for each in found]
        print_table(("cell", "state", "CPU min"), rows)
        rest = "how much is left is not known yet" if left is None else f"about {left / 60:.2f} left"
        typer.echo(
            f"{hours:.2f} CPU hours so far, {rest}." if left != 0 else f"{hours:.2f} CPU hours; nothing is left to do."
        )
    if any(status.state == "failed" for status in found):
        raise typer.Exit(1)


def _minutes(cpu_minutes: float | None) -> str:
    return "" if cpu_minutes is None else f"{cpu_minutes:.1f}"
