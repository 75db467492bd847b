"""What a suite came to: the seeds of each cell together, tables by protocol, paired tests, in results.json and report.html."""

from __future__ import annotations

from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Report, to_json, write_report
from llmrec.evaluation.results import Result
from llmrec.evaluation.saved import save_results
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.significance import renamed
from llmrec.evaluation.suite.kept import load_cell
from llmrec.evaluation.suite.layout import Layout
from llmrec.evaluation.suite.run import Status
from llmrec.evaluation.suite.settings import SuiteFile


def results_of(found: list[Status], layout: Layout) -> list[Result]:
    """A result for each group of cells that has a finished one: the mean over its finished seeds."""
    by_group: dict[str, list[Status]] = {}
    for status in found:
        if status.state == "done":
            by_group.setdefault(status.cell.group, []).append(status)
    return [
        renamed(
            over_seeds([load_cell(layout.cell(each.cell.name)) for each in group], [each.cell.seed for each in group]),
            group[0].cell.shown,
        )
        for group in by_group.values()
    ]


def write_summary(suite: SuiteFile, found: list[Status], layout: Layout, command: str) -> list[Result]:
    """Writes both files, of what is finished; the results, none where nothing is."""
    results = results_of(found, layout)
    if not results:
        return []
    minutes = sum(status.cpu_minutes for status in found if status.cpu_minutes is not None)
    facts = {
        **provenance(command),
        "cpu_hours": round(minutes / 60, 2),
        "cells": f"{sum(status.state == 'done' for status in found)} of {len(found)}",
    }
    report = Report(f"Suite {suite.name}", suite.description, results, facts)
    value = to_json(report) | {"cells": [status.to_json() for status in found]}
    save_results(layout.folder / "results.json", value, results)
    write_report(layout.folder / "report.html", report)
    return results
