"""Runs a suite cell by cell: what is finished is kept, a cell that fails is told of and the others go on."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmrec.data.folder import Data
from llmrec.errors import ConfigError
from llmrec.evaluation.suite.kept import facts_of
from llmrec.evaluation.suite.layout import Layout
from llmrec.evaluation.suite.settings import Cell, SuiteFile
from llmrec.processes import with_parent


@dataclass(frozen=True)
class Status:
    """Of one cell: "done", "failed" (with the sentence it ended on) or "open", and the CPU minutes it took."""

    cell: Cell
    state: str
    cpu_minutes: float | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "cell": self.cell.name,
            "kind": self.cell.cells.kind,
            "task": self.cell.task,
            "state": self.state,
            "cpu_minutes": self.cpu_minutes,
            "problem": self.problem,
        }


def chosen_cells(suite: SuiteFile, only: str | None) -> list[Cell]:
    """The cells whose name fits the pattern, in the suite's order. Raises ConfigError where none does."""
    cells = list(suite.expanded())
    chosen = [cell for cell in cells if only is None or fnmatch.fnmatchcase(cell.name, only)]
    if not chosen:
        raise ConfigError(
            f"no cell of the suite '{suite.name}' fits '{only}' (there are: {', '.join(c.name for c in cells)})."
        )
    return chosen


def statuses(suite: SuiteFile, layout: Layout, cells: list[Cell]) -> list[Status]:
    """What is done already."""
    found = []
    for cell in cells:
        is_done = layout.is_done(suite, cell)
        found.append(
            Status(cell, "done", facts_of(layout.cell(cell.name))["cpu_minutes"]) if is_done else Status(cell, "open")
        )
    return found


def minutes_left(found: list[Status]) -> float | None:
    """CPU minutes of what is open, each as the finished cells of its group, else of its kind, took on average; None: not known."""
    total = 0.0
    for status in found:
        if status.state != "open":
            continue
        done = [each for each in found if each.cpu_minutes is not None]
        alike = [each for each in done if each.cell.group == status.cell.group] or [
            each for each in done if each.cell.cells.kind == status.cell.cells.kind
        ]
        if not alike:
            return None
        total += sum(each.cpu_minutes for each in alike) / len(alike)
    return total


def run_cells(
    suite: SuiteFile, data: Data, layout: Layout, cells: list[Cell], say: Callable[[str], None]
) -> list[Status]:
    """Measures what is open, one after another. say: told of each cell when it begins and ends."""
    layout.begin(suite, data)
    found = statuses(suite, layout, cells)
    for place, status in enumerate(found):
        if status.state == "done":
            continue
        cell = status.cell
        say(f"{place + 1} of {len(found)}: {cell.name}")
        found[place] = _measured(layout, cell)
        ended = found[place]
        said = f"{ended.cpu_minutes:.1f} CPU min" if ended.state == "done" else f"failed: {ended.problem}"
        say(f"{cell.name}: {said}")
    return found


def _measured(layout: Layout, cell: Cell) -> Status:
    log = layout.log(cell.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "llmrec.evaluation.suite.measure", str(layout.folder), cell.name]
    with log.open("ab") as file:
        start = file.tell()
        status = subprocess.run(command, stdout=file, stderr=file, env=with_parent(), check=False).returncode
    if status == 0:
        return Status(cell, "done", facts_of(layout.cell(cell.name))["cpu_minutes"])
    said = log.read_bytes()[start:].decode("utf-8", errors="replace")
    sentences = [line.removeprefix("llmrec: ") for line in said.splitlines() if line.startswith("llmrec: ")]
    problem = sentences[0] if sentences else f"it ended with status {status}"
    return Status(cell, "failed", None, f"{problem} (all it said: {log})")
