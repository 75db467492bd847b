"""What training a network of item sequences says and keeps: its estimate before, a line and a record for each validation, its cost.

Letters: I items.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from llmrec.files import write_json, write_text
from llmrec.fit import fit
from llmrec.memory import free_machine_bytes, peak_bytes, resident_bytes, restart_peak
from llmrec.sequential.learning import CRITERIA, Learner, Validation
from llmrec.training.checkpoints import read_log
from llmrec.training.cost import FILE, Estimate
from llmrec.training.probes import storage_bytes
from llmrec.training.progress import duration

TRIED, WARM = 12, 3  # steps; and how many of them before time is taken


def estimate_training(learner: Learner, validation: Validation, share: float) -> Estimate:
    """What the training will take, by some of its own steps and one validation, on a network that is then forgotten.

    validation: of a share of the instances, in (0, 1]; the time of all follows from it.
    """
    restart_peak()
    used_before, free = resident_bytes(), free_machine_bytes()
    training = learner.begin(learner.settings.epochs)
    network, seconds = training.recommender.network, list[float]()
    validate = validation(training.recommender)

    def timed(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        seconds.append(time.perf_counter())
        return training.loss_of(rows)

    steps = training.schedule.num_steps(len(training.windows))
    tried = min(TRIED, steps)
    schedule = training.schedule.of_steps(tried, len(training.windows))
    fit(
        network, timed, len(training.windows), training.optimizer, schedule, validate=None,
        criterion=CRITERIA[learner.settings.monitor], seed=learner.settings.seed, name=learner.settings.shown_name,
    )  # fmt: skip
    seconds.append(time.perf_counter())
    began = time.perf_counter()
    validate()
    validation_seconds = (time.perf_counter() - began) / share
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    weights = storage_bytes([*network.parameters(), *network.buffers()])
    optimizer = 2 * storage_bytes(trained)
    peak = peak_bytes()
    return Estimate(
        num_steps=steps,
        step_seconds=float(np.mean(np.diff(seconds)[min(WARM, tried - 1) :])),
        num_validations=math.ceil(steps / (learner.settings.validate_every * training.an_epoch)),
        validation_seconds=validation_seconds,
        trained_parameters=sum(parameter.numel() for parameter in trained),
        frozen_parameters=0,
        weights=weights,
        gradients=storage_bytes(trained),
        optimizer=optimizer,
        activations=0,
        peak=peak,
        used_before=used_before,
        free=free,
        largest_tried=True,
    )


class TrainingLog:
    """Writes training_log.jsonl and says a line for each validation; called with all of them, see `fit`.

    A killed training that goes on keeps the records up to where it goes on, and the CPU seconds that they tell of.
    """

    def __init__(self, path: Path, expected: Estimate, an_epoch: int, monitor: str) -> None:
        """an_epoch: steps; monitor: the figure that decides which weights are best, the higher the better."""
        self.path, self.expected, self.an_epoch, self.monitor = path, expected, an_epoch, monitor
        self.kept = {record["step"]: record for record in read_log(path)}
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        self.first_step: int | None = None
        self.cpu_before = 0.0

    def __call__(self, validations: Sequence[dict[str, float]]) -> None:
        """validations: step, train_loss and figures of each so far."""
        steps = [int(line["step"]) for line in validations]
        if self.first_step is None:  # the first call after a kill brings those of before
            earlier = [step for step in steps if step in self.kept]
            self.first_step = earlier[-1] if earlier else 0
            self.cpu_before = self.kept[self.first_step]["cpu_seconds"] if earlier else 0.0
            self.kept = {step: self.kept[step] for step in earlier}
        for step, line in zip(steps, validations, strict=True):
            if step not in self.kept:
                self.kept[step] = self._record(step, line)
                self._say(step, validations)
        write_text(self.path, "".join(json.dumps(self.kept[step]) + "\n" for step in steps))

    @property
    def cpu_seconds(self) -> float:
        """Of the whole training, what was done before a kill and kept among it."""
        return self.cpu_before + time.process_time() - self.cpu_began

    def _record(self, step: int, line: dict[str, float]) -> dict[str, float]:
        found = {f"eval_{name}": value for name, value in line.items() if name not in ("step", "train_loss")}
        epoch = step / self.an_epoch
        return {"step": step, "epoch": epoch, "loss": line["train_loss"], **found, "cpu_seconds": self.cpu_seconds}

    def _say(self, step: int, validations: Sequence[dict[str, float]]) -> None:
        line, total = validations[-1], self.expected.num_steps
        figures = ", ".join(f"{name} {value:.4f}" for name, value in line.items() if name not in ("step", "train_loss"))
        is_best = line[self.monitor] > max((each[self.monitor] for each in validations[:-1]), default=-math.inf)
        best = " (the best so far)" if is_best and len(validations) > 1 else ""
        done = step - (self.first_step or 0)
        left = duration((time.perf_counter() - self.began) / done * (total - step)) if done and step < total else ""
        print(
            f"step {step:,} of at most {total:,} (epoch {step / self.an_epoch:.3g}): loss {line['train_loss']:.4f}, validation "
            f"{figures}{best}" + (f", at most {left} left" if left else ""),
            flush=True,
        )


def write_cost(folder: Path, expected: Estimate, cpu_seconds: float) -> None:
    """FOLDER/estimate.json: what was expected, and what the training took."""
    measured = {"cpu_seconds": cpu_seconds, "peak": peak_bytes()}
    write_json(folder / FILE, {"estimate": expected.to_json(), "measured": measured})
