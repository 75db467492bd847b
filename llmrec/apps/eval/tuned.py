"""The settings of a baseline that `llmrec eval` measures: those given, or the best of --tune."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import typer

from llmrec.apps.eval.asked import Baselines
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.evaluation.results import R
from llmrec.evaluation.tasks import Task
from llmrec.evaluation.tuning import tuned_baseline


@dataclass(frozen=True)
class Chosen:
    """settings: "key=value"; search: how they were found, JSON values, None where they were given."""

    settings: tuple[str, ...]
    search: dict[str, Any] | None = None

    def on_card(self, result: R) -> R:
        """The result, whose recommender's card says how its settings were found."""
        if self.search is None:
            return result
        card = {**result.protocol["recommender"], "tuned": self.search}
        return replace(result, protocol={**result.protocol, "recommender": card})


def chosen_settings(baseline: Baselines, data: Data, task: Task, split: Split | ClickSplit) -> Chosen:
    """Searches where that is asked for, and says what came of it. Raises ConfigError where there is nothing to search."""
    if not baseline.tune:
        return Chosen(baseline.settings)
    tuned = tuned_baseline(baseline.baseline, split, task, data, trials=baseline.tune, given=baseline.settings)
    typer.echo(tuned.sentence, err=True)
    return Chosen(tuple(tuned.overrides), tuned.card)
