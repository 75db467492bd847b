"""Evaluation tasks: one YAML file says what is asked of whom, what may be learned from, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from rapidfuzz import process

from llmrec.config import Seed, Settings, load_config
from llmrec.data import splits
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.resources import resource_path


class LeaveOneOut(Settings):
    """Each user's last event; see `llmrec.data.splits.leave_one_out`."""

    policy: Literal["leave_one_out"] = "leave_one_out"

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.leave_one_out(interactions)


class Temporal(Settings):
    """One global cut in time; see `llmrec.data.splits.temporal`."""

    policy: Literal["temporal"]
    test_quantile: float = Field(0.9, gt=0, lt=1)
    valid_quantile: float = Field(0.8, gt=0, lt=1)

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions. Raises DataError without times."""
        return splits.temporal(interactions, self.test_quantile, self.valid_quantile)


class ByUser(Settings):
    """Whole users held out; see `llmrec.data.splits.by_user`."""

    policy: Literal["by_user"]
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    seed: Seed = 0

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.by_user(interactions, self.valid, self.test, self.seed)


class Interval(Settings):
    """Bootstrap over users."""

    resamples: int = Field(1000, ge=10)
    level: float = Field(0.95, gt=0, lt=1)
    seed: Seed = 0


class Task(Settings):
    """What an evaluation asks. Two results may stand in one column only if their tasks are equal."""

    name: str
    version: int
    split: Annotated[LeaveOneOut | Temporal | ByUser, Field(discriminator="policy")] = LeaveOneOut()
    fit: Literal["train", "train+valid"] = "train"
    candidates: Literal["all"] = "all"
    exclude_seen: bool = True
    metrics: tuple[Literal["recall", "ndcg", "mrr", "hit", "coverage", "popularity_bias"], ...] = Field(min_length=1)
    ks: tuple[int, ...] = Field(min_length=1)
    interval: Interval = Interval()

    @field_validator("ks")
    @classmethod
    def _rising(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if ks[0] < 1 or list(ks) != sorted(set(ks)):
            raise ValueError(f"should be rising numbers from 1 on, such as [1, 5, 10], but are {list(ks)}")
        return ks


def task_names() -> list[str]:
    """The shipped tasks, by name."""
    return sorted(path.stem for path in resource_path("eval/tasks").glob("*.yaml"))


def load_task(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Reads a shipped task by name, or any YAML file by path, with overrides such as "fit=train+valid" on top.

    Raises ConfigError for an unknown name (naming the nearest), an unreadable file, an unknown key or a wrong value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource_path("eval/tasks") / f"{name_or_path}.yaml"
        if not path.is_file():
            names = task_names()
            nearest = process.extractOne(str(name_or_path), names)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise ConfigError(f"there is no task '{name_or_path}' (there are: {', '.join(names)}).{hint}")
    return load_config(Task, path, overrides)
