"""Whose clicks a language model learns from and is measured by: the rows of a click task, and how many of them."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from llmrec.config import Settings
from llmrec.data.click_examples import ClickSplit, sampled_rows
from llmrec.data.folder import Data
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks import ClicksTask, load_any_task


class ClickSettings(Settings):
    """The rows to train on, to choose checkpoints by and to be measured by at the end."""

    task: str = (
        "clicks"  # one that `llmrec tasks` lists, or the path of one: its split, its labels, how long histories are
    )
    max_train_examples: int | None = Field(None, ge=2)  # sampled by seed; None: all
    max_valid_examples: int = Field(2000, ge=2)
    max_test_examples: int | None = Field(None, ge=2)


def click_rows(settings: ClickSettings, data: Data, *, seed: int) -> tuple[ClickSplit, ClickSplit]:
    """All rows of the task's split, and of each part as many as the settings want. Raises ConfigError for a task of another kind."""
    task = load_any_task(settings.task)
    if not isinstance(task, ClicksTask):
        raise ConfigError(
            f"clicks.task should be of the kind 'clicks', but '{task.name}' is of the kind '{task.kind}'; `llmrec tasks` lists all."
        )
    whole = task.make(data)
    sampled = {
        name: sampled_rows(getattr(whole, name), getattr(settings, f"max_{name}_examples"), seed)
        for name in ("train", "valid", "test")
    }
    return whole, replace(whole, **sampled)
