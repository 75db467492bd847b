"""Folders that answer clicks, as commands meet them: CTR models, and runs of a language model that say how likely "liked" is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrec.apps.eval.asked import Asked
from llmrec.apps.options import Decoder
from llmrec.artifacts.run_folder import read_manifest
from llmrec.ctr.model import CARD, CtrModel
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import load_data
from llmrec.errors import ArtifactError, ConfigError
from llmrec.evaluation.compare import ClickComparison
from llmrec.evaluation.runs import seeds_of, settings_of, trained_on
from llmrec.evaluation.tasks import ClicksTask, load_any_task
from llmrec.files import read_json
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.pointwise import PointwiseRecommender

# What a task and a run must agree on, so that no asked row was trained on.
_PROTOCOL = ("split", "shares", "labels", "train_until", "valid_until", "content")
CLICKS = "clicks"


@dataclass(frozen=True)
class ClickRun:
    """folder: of the run; card: what it was trained by; data: the folder it was trained on."""

    folder: Path
    card: dict
    data: Path
    is_ctr_model: bool

    def check_rows(self, split: ClickSplit) -> None:
        """Raises ConfigError where it was trained on other examples than the task divides, so that it may know answers."""
        trained = self.card.get("split") or {}
        different = [key for key in _PROTOCOL if trained.get(key) != split.card.get(key)]
        if different:
            shown = "; ".join(f"{key} {trained.get(key)} and {split.card.get(key)}" for key in different[:2])
            raise ConfigError(
                f"'{self.folder}' was trained on other examples than the task divides ({shown}), so that it may have learned the "
                "answers. Name the data folder and a task of the run's own protocol."
            )

    def open(self, decoder: Decoder, num_items: int, data: Path) -> ClickScorer:
        """Loaded, to score rows of a catalogue of so many items. Raises ConfigError where it knows another."""
        if self.is_ctr_model:
            model, _ = CtrModel.load(self.folder)
            if model.inputs.num_items != num_items:
                raise ConfigError(
                    f"'{self.folder}' knows {model.inputs.num_items} items, but '{data}' has {num_items}. Name its own folder."
                )
            return model
        ranker = decoder.open(self.folder).ranker
        assert isinstance(ranker, PointwiseRecommender), type(ranker)
        return ranker


def is_click_run(folder: Path) -> bool:
    """Whether it is a CTR model or a run that was trained to answer clicks."""
    return (folder / CARD).is_file() or read_manifest(folder)["protocol"].get("objective") == "pointwise"


def usual_task(folder: Path) -> str:
    """The task that a folder is asked where none is named: of clicks the one that it was trained by, where its settings say so."""
    if not is_click_run(folder):
        return "leave_one_out"
    clicks = {} if (folder / CARD).is_file() else settings_of(folder).get("clicks")
    return clicks.get("task", CLICKS) if isinstance(clicks, dict) else CLICKS


def click_run(folder: Path, task: str) -> ClickRun:
    """What the folder says of itself, before anything is loaded. Raises ConfigError where it answers no clicks, naming the task."""
    if (folder / CARD).is_file():
        card = read_json(folder / CARD, "card of a CTR model", ArtifactError).get("card")
        if not isinstance(card, dict) or "data" not in card:
            raise ArtifactError(f"the card of the CTR model in '{folder}' is not whole; train it again.")
        return ClickRun(folder, card, Path(card["data"]), True)
    trained = read_manifest(folder)["protocol"]
    if trained.get("objective") != "pointwise":
        raise ConfigError(
            f"'{folder}' ranks items and says of none whether it is liked, so the task '{task}' has nothing to ask it. Name a "
            "CTR model, a run of clicks or of soft_tokens with objective=pointwise, or a task of another kind."
        )
    return ClickRun(folder, trained, trained_on(folder), False)


def click_comparison_of(asked: Asked) -> tuple[ClickComparison, dict[Path, ClickRun]]:
    """What click runs are asked, and the runs by folder. What is wrong is said before a model is loaded."""
    task = load_any_task(asked.task)
    assert isinstance(task, ClicksTask), type(task)
    runs = {folder: click_run(folder, task.name) for folder in (*asked.runs, *asked.against)}
    data = load_data(asked.data or runs[asked.runs[0]].data)
    split = task.make(data)
    for run in runs.values():
        run.check_rows(split)
    return ClickComparison(data, task, split, asked.subset, asked.cost_seconds), runs


def seeds_of_click_runs(runs: Sequence[ClickRun]) -> list[int]:
    """The seed of each. Raises ConfigError where several are no seeds of one configuration."""
    if len(runs) == 1:
        return [0]
    if not any(run.is_ctr_model for run in runs):
        return seeds_of([run.folder for run in runs])
    first = runs[0]
    for run in runs[1:]:
        different = [key for key in ("model", "variant", "split", "data") if first.card.get(key) != run.card.get(key)]
        if different or not run.is_ctr_model:
            raise ConfigError(
                f"'{first.folder}' and '{run.folder}' are no seeds of one configuration: they differ in "
                f"{', '.join(different) or 'kind'}. Name them apart, with a space between."
            )
    seeds = [run.card.get("seed") for run in runs]
    if None in seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"CTR models of one configuration should have different seeds, but they have {', '.join(map(str, seeds))}."
        )
    return seeds
