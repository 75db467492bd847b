"""What a training says on the screen while it runs: a line per log step, and a bar where there is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmrec.backbones.adapters import TrainablePart, describe
from llmrec.backbones.causal_lm import Backbone


def duration(seconds: float) -> str:
    """Words for a person: "3.5 h", "12 min", "40 s"."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


class ProgressLines(TrainerCallback):
    """One line with loss, learning rate and time left each time the Trainer logs, one with the figures of each validation."""

    def __init__(self, criterion: str) -> None:
        """criterion: the figure of a validation that decides which checkpoint is best."""
        self.criterion = criterion

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called once the Trainer has read the checkpoint."""
        self.start, self.first_step = time.perf_counter(), state.global_step
        is_seen = state.is_world_process_zero and sys.stderr.isatty()
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", leave=False, dynamic_ncols=True,
            disable=not is_seen,
        )  # fmt: skip

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Called after each optimiser step."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Called with each record."""
        if not state.is_world_process_zero or not logs:
            return
        found = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
        if found:
            said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            self._say(state, f"validation {said}{self._is_best(args, state, found)}")
        elif "loss" in logs:
            rate = f"learning rate {logs['learning_rate']:.3g}"
            self._say(state, f"loss {logs['loss']:.4f}, {rate}{self._left(state)}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Called after the last step."""
        self.bar.close()

    def _say(self, state: TrainerState, text: str) -> None:
        self.bar.clear()
        print(f"step {state.global_step:,} of {state.max_steps:,}: {text}", flush=True)
        self.bar.refresh()

    def _is_best(self, args: TrainingArguments, state: TrainerState, found: dict[str, float]) -> str:
        """Said before the Trainer itself compares, so it is compared here, too."""
        if self.criterion not in found or state.best_metric is None:
            return ""
        now, best = found[self.criterion], state.best_metric
        return " (the best so far)" if (now > best if args.greater_is_better else now < best) else ""

    def _left(self, state: TrainerState) -> str:
        """Validations are in the time, as often as they have come so far."""
        done, ahead = state.global_step - self.first_step, state.max_steps - state.global_step
        if not done or not ahead:
            return ""
        return f", {duration((time.perf_counter() - self.start) / done * ahead)} left"


def print_parts(backbone: Backbone, parts: Sequence[TrainablePart], *, num_rows: int) -> None:
    """The first thing a training says: which model, which parts of it learn, and how fast."""
    if not PartialState().is_main_process:
        return
    source = backbone.source
    total = sum(p.numel() for p in backbone.parameters())
    table = Table(
        title=f"{source.name} from {source.source}: {backbone.layers}, {num_rows:,} training examples",
        title_justify="left",
    )
    for column in ("trained part", "parameters", "learning rate"):
        table.add_column(column, justify="left" if column == "trained part" else "right")
    for row in describe(parts, total):
        table.add_row(*row)
    Console().print(table)
