"""Checkpoints that a killed process cannot spoil, a log that a resumed run continues, and an end that it comes to at the same step."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from pathlib import Path

from accelerate import PartialState
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from llmrec.errors import ArtifactError
from llmrec.files import read_json, sweep, write_json, write_text

CHECKPOINTS = "checkpoints"  # the folder of a training that holds them
COMPLETE = "complete.json"
LOG = "training_log.jsonl"
LOSSES = "losses.json"
logger = logging.getLogger(__name__)


class MarkComplete(TrainerCallback):
    """Writes complete.json (every file and its size) last into each checkpoint, without which it counts as half-written, and only then
    removes those that are no longer needed: whenever a process dies, the newest complete checkpoint is at most one interval old and
    the best one is there.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint. What lies after its step is made anew: a mark left there would speak for
        files that are just being replaced."""
        if state.is_world_process_zero:
            for step, path in _checkpoints(Path(args.output_dir)):
                if step > state.global_step:
                    shutil.rmtree(path)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Called when the Trainer has written everything of a checkpoint that this process writes."""
        PartialState().wait_for_everyone()  # each process writes its own random numbers
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / COMPLETE, {"files": _sizes(folder)})
            _rotate(Path(args.output_dir), state)


def _rotate(folder: Path, state: TrainerState) -> None:
    """Leaves the newest checkpoint and the best; where these are one, also the best before it, in case a file of it is lost."""
    found = dict(_checkpoints(folder))
    best = state.best_global_step
    older = [step for step, path in found.items() if step < state.global_step and _is_complete(path)]
    if best == state.global_step and older:
        newest_of_older = TrainerState.load_from_json(str(found[max(older)] / TRAINER_STATE_NAME))
        best = newest_of_older.best_global_step
    for step, path in found.items():
        if step not in (state.global_step, best):
            shutil.rmtree(path)


class EndsOnce(EarlyStoppingCallback):
    """Early stopping whose count of validations without a better one is part of a checkpoint, and a training that was over when it
    was killed is over when it is resumed: by its patience, or by its number of steps.

    The Trainer restores the count where its `restore_callback_states_from_checkpoint` is set, and forgets that it was to stop.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint."""
        out_of_patience = self.early_stopping_patience_counter >= self.early_stopping_patience
        if out_of_patience or state.global_step >= state.max_steps:
            control.should_training_stop = True


class EndsAt(TrainerCallback):
    """A training that ends after so many steps, whatever its schedule has planned, with a checkpoint of the last."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint."""
        control.should_training_stop = state.global_step >= self.step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Called after each optimiser step."""
        if state.global_step >= self.step:
            control.should_training_stop = control.should_save = True


class FindsBest(TrainerCallback):
    """The best checkpoint is the one in this run's folder, wherever the folder lay when it was written.

    The Trainer keeps its path: of a run that was moved it would end with the last weights instead of the best, after a warning, and of
    a copy with whatever lies in the original by now.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint. Raises ArtifactError where the best one is gone."""
        if state.best_global_step:
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            if not _is_complete(best):
                raise ArtifactError(
                    f"this run was best at step {state.best_global_step}, but '{best}' is gone or incomplete; put it back, or start "
                    "over with --fresh."
                )
            state.best_model_checkpoint = str(best)


class ContinuesLoss(TrainerCallback):
    """Mean losses and the process time of a resumed training are those of an unbroken one: the Trainer begins to add up anew."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint and has forgotten its losses."""
        self.trainer.start_clock(0.0)
        if state.global_step:
            found = read_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / LOSSES, "losses so far")
            self.trainer._total_loss_scalar = found["total"]
            self.trainer._tr_loss += found["unlogged"]
            self.trainer._globalstep_last_logged = found["logged_at"]
            self.trainer.start_clock(found.get("cpu_seconds"))  # checkpoints before December 2026 do not say


class LogLines(TrainerCallback):
    """Appends every record the Trainer logs (loss, learning rate, validation metrics) to a jsonl file, one object a line; null is NaN
    or infinite."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Keeps the lines up to the step a run resumes from, so that no step stands in the log twice."""
        if state.is_world_process_zero:
            kept = [record for record in read_log(self.path) if record["step"] <= state.global_step]
            write_text(self.path, "".join(_line(record) for record in kept if state.global_step > 0))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict | None = None,
        **_: object,
    ) -> None:
        """Called with each record."""
        if state.is_world_process_zero and logs:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line({"step": state.global_step, **logs}))


def _line(record: dict) -> str:
    """One line of JSON, which has no NaN and no infinity: null stands for them."""
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }
    return json.dumps(known, allow_nan=False) + "\n"


def read_log(path: Path) -> list[dict]:
    """The records of a training log, NaN where it says null; a last line that a killed process left unfinished is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        records.append({name: math.nan if value is None else value for name, value in record.items()})
    return records


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint-N under `folder` whose files are all there in full length, or None. Half-written ones are reported."""
    for _, path in reversed(_checkpoints(folder)):
        if _is_complete(path):
            return path
        logger.warning("the checkpoint '%s' is half-written and is passed over", path)
    return None


def sweep_training(folder: Path) -> None:
    """Removes what a killed process was writing into a training's folder and into its checkpoints."""
    for place in (folder, *(path for _, path in _checkpoints(folder / CHECKPOINTS))):
        sweep(place)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Every checkpoint-N under `folder` by its N, the oldest first, complete or not."""
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*"))
    return sorted((int(match[1]), path) for match, path in found if match)


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint-N was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def was_over(checkpoint: Path) -> bool:
    """Whether the training had come to its end with this checkpoint, by its steps or its patience: see `EndsOnce`."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    ends = state.stateful_callbacks[EndsOnce.__name__]
    without_better, patience = (
        ends["attributes"]["early_stopping_patience_counter"],
        ends["args"]["early_stopping_patience"],
    )
    return state.global_step >= state.max_steps or without_better >= patience


def _is_complete(folder: Path) -> bool:
    try:
        expected = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    present = _sizes(folder)
    return all(present.get(name) == size for name, size in expected.items())


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(p.relative_to(folder)): p.stat().st_size
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != COMPLETE
    }
