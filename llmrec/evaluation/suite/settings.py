"""What a suite's file says: tasks, and the cells that are measured by them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from rapidfuzz import process

from llmrec.config import Seed, Settings, load_config
from llmrec.errors import ConfigError
from llmrec.evaluation.names import model_in_words
from llmrec.files import check_name
from llmrec.resources import resource_path

SUITES = "eval/suites"


class _Cells(Settings):
    """Cells that differ in task, model and seed alone. settings: "key=value" of what is measured, on top of its defaults or its
    config."""

    name: str = ""  # part of the cell's; tables show it, beside the model's where there are models
    tasks: tuple[str, ...] = Field(min_length=1)  # of the suite's
    models: tuple[str, ...] = ()
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    settings: tuple[str, ...] = ()


class _Searched(_Cells):
    """trials: how many settings of each model are tried on validation, the defaults first; 1: the defaults alone."""

    models: tuple[str, ...] = Field(min_length=1)
    trials: int = Field(1, ge=1)


class Tuned(_Cells):
    """A language model, or a network of item sequences, trained by a recipe on the task's training rows, then asked its test rows."""

    kind: Literal["tuned"]
    name: str = Field(min_length=1)
    recipe: Literal["clicks", "next_item", "sequential"]
    config: str | None = None  # a shipped config of the recipe, by its name
    num_beams: int = Field(20, ge=1)  # where items are decoded


class Asked(_Cells):
    """A language model as it is, never trained here: zero-shot, or with solved examples (settings: shots=4)."""

    kind: Literal["asked"]
    models: tuple[str, ...] = Field(min_length=1)  # as `llmrec eval --model` takes them


class ByName(_Searched):
    """A conventional recommender, as `llmrec eval --baseline` takes them: of the next item, or what clicks are compared with."""

    kind: Literal["baseline"]


class Ctr(_Searched):
    """A conventional model of clicks; settings such as "inputs=text" say what an item is to it (`llmrec.ctr.from_task`)."""

    kind: Literal["ctr"]


AnyCells = Annotated[Tuned | Asked | ByName | Ctr, Field(discriminator="kind")]


@dataclass(frozen=True)
class Cell:
    """One of a suite's cells: what is measured, on which task, with one seed. model: "" of what a recipe trains."""

    cells: AnyCells
    task: str
    model: str
    seed: int

    @property
    def label(self) -> str:
        """What it is, whatever its task and seed."""
        return "_".join(part for part in (self.model.rpartition("/")[2], self.cells.name) if part)

    @property
    def shown(self) -> str:
        """What tables call it: "DNN (text)", "tuned unique id"."""
        name = self.cells.name.replace("_", " ")
        model = model_in_words(self.model.rpartition("/")[2])
        return f"{model} ({name})" if model and name else model or name

    @property
    def group(self) -> str:
        """What cells that differ in their seed alone share."""
        return f"{self.task}.{self.label}"

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.group}-{self.seed}"


class SuiteFile(Settings):
    """tasks: name -> {task: a shipped task or a file, and settings that override its own}. cost_seconds: how long the cost of an
    answer is measured in each cell; 0: not at all."""

    name: str
    description: str
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    cells: tuple[AnyCells, ...] = Field(min_length=1)
    cost_seconds: float = Field(6.0, ge=0)

    def expanded(self) -> Iterator[Cell]:
        """Every cell, seed by seed. Raises ConfigError for a task that the suite does not have, and for two cells of one name."""
        seen: set[str] = set()
        for cells in self.cells:
            for task, model, seed in itertools.product(cells.tasks, cells.models or ("",), cells.seeds):
                cell = Cell(cells, task, model, seed)
                check_name(cell.name, "the name of a cell, TASK.MODEL_NAME-SEED,", ConfigError)
                if task not in self.tasks:
                    raise ConfigError(
                        f"the cell '{cell.name}' names the task '{task}', but the suite '{self.name}' has: {', '.join(self.tasks)}."
                    )
                if cell.name in seen:
                    raise ConfigError(
                        f"the suite '{self.name}' has two cells '{cell.name}'; give each a name of its own."
                    )
                seen.add(cell.name)
                yield cell


def suite_names() -> list[str]:
    """The shipped suites, by name."""
    return sorted(path.stem for path in resource_path(SUITES).glob("*.yaml"))


def load_suite(name_or_path: str | Path) -> SuiteFile:
    """A shipped suite by name, or any YAML file by path. Raises ConfigError for an unknown name, key or value."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource_path(SUITES) / f"{name_or_path}.yaml"
        if not path.is_file():
            names = suite_names()
            nearest = process.extractOne(str(name_or_path), names)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise ConfigError(f"there is no suite '{name_or_path}' (there are: {', '.join(names)}).{hint}")
    suite = load_config(SuiteFile, path, [])
    list(suite.expanded())
    return suite
