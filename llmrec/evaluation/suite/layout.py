"""Where everything of a suite lies.

DIR/suite.yaml, tasks/NAME.yaml  what was asked for: the suite, and its tasks with all their settings
DIR/cells/CELL/                  finished cells (`suite.kept`)
DIR/work/CELL/, answers/         trainings and evaluations, which go on where they were
DIR/logs/CELL.log                what was said meanwhile
DIR/results.json, report.html    of the finished cells
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from llmrec.config import load_config
from llmrec.data.folder import Data
from llmrec.errors import ConfigError
from llmrec.evaluation.shards import Work, weights_of
from llmrec.evaluation.suite.kept import facts_of, is_kept
from llmrec.evaluation.suite.settings import Cell, SuiteFile, Tuned
from llmrec.evaluation.tasks import load_any_task
from llmrec.files import check_writable, content_hash, read_json, write_json, write_text

_SUITE, _DATA = "suite.yaml", "data.json"


class Layout:
    """The folder of a suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cell(self, name: str) -> Path:
        """A finished cell's folder."""
        return self.folder / "cells" / name

    def work(self, name: str) -> Path:
        """Where a cell is trained."""
        return self.folder / "work" / name

    def log(self, name: str) -> Path:
        """What a cell said."""
        return self.folder / "logs" / f"{name}.log"

    def answers(self, cell: Cell) -> Work:
        """Where a killed evaluation of the cell goes on."""
        run = self.work(cell.name)
        return Work(self.folder / "answers", f"{cell.name} {weights_of(run) if isinstance(cell.cells, Tuned) else ''}")

    def task(self, name: str) -> Path:
        """A task with all its settings."""
        return self.folder / "tasks" / f"{name}.yaml"

    def begin(self, suite: SuiteFile, data: Data) -> None:
        """Writes what the cells will read. Raises ConfigError for other data than the folder's cells were measured on."""
        check_writable(self.folder)
        now = {"folder": str(Path(data.folder).resolve()), "content_hash": data.content_hash()}
        path = self.folder / _DATA
        if path.exists() and (then := read_json(path, "data of a suite"))["content_hash"] != now["content_hash"]:
            raise ConfigError(
                f"the cells in '{self.folder}' are of other data ({then['folder']}, content {then['content_hash']}) than "
                f"'{data.folder}' ({now['content_hash']}). Give another --out."
            )
        for name, given in suite.tasks.items():
            overrides = [f"{key}={json.dumps(value)}" for key, value in given.items() if key != "task"]
            task = load_any_task(given["task"], overrides)
            write_text(self.task(name), yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False))
        write_text(self.folder / _SUITE, yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False))
        write_json(path, now)

    def begun_with(self) -> tuple[SuiteFile, Path]:
        """What `begin` wrote: the suite, and the folder of its data."""
        known = read_json(self.folder / _DATA, "data of a suite")
        return load_config(SuiteFile, self.folder / _SUITE, []), Path(known["folder"])

    def digest(self, suite: SuiteFile, cell: Cell) -> str:
        """16 characters that depend on what the cell measures: data, task, settings, seed."""
        data = read_json(self.folder / _DATA, "data of a suite")["content_hash"]
        task = self.task(cell.task).read_text(encoding="utf-8")
        cells = cell.cells.model_dump(mode="json", exclude={"seeds", "tasks", "models", "name"})
        return content_hash(data, task, json.dumps(cells, sort_keys=True), cell.model, str(cell.seed))

    def is_done(self, suite: SuiteFile, cell: Cell) -> bool:
        """Whether the cell is kept. Raises ConfigError where it was measured by other settings."""
        folder = self.cell(cell.name)
        if not is_kept(folder):
            return False
        if facts_of(folder)["digest"] != self.digest(suite, cell):
            raise ConfigError(
                f"the cell '{cell.name}' in '{self.folder}' was measured by another task or other settings; delete '{folder}' and "
                f"'{self.work(cell.name)}' to measure it again, or give another --out."
            )
        return True
