"""What a training will take, as numbers and as a sentence: seconds, steps, bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrec.training.progress import duration

FILE = "estimate.json"


@dataclass(frozen=True)
class Estimate:
    """What a training will take. Bytes, seconds and optimiser steps of one process; None: the system does not say.

    activations: what the largest batch's forward pass keeps for its backward pass; peak: all of the process at its highest;
    free: what the process may take beyond what it uses before training. step_seconds: None where nothing was tried, for gradients and
    the optimiser's state leave no room; the peak is then the least that it can be. validation_seconds: None where no ranking was
    tried; `seconds` are then those of the steps. not_tried: what was left out because one try took more than a minute.
    """

    num_steps: int
    step_seconds: float | None
    num_validations: int
    validation_seconds: float | None
    trained_parameters: int
    frozen_parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int | None
    used_before: int | None
    free: int | None
    largest_tried: bool
    not_tried: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """All steps and validations."""
        return self.seconds_of(self.num_steps, self.num_validations)

    def seconds_of(self, num_steps: int, num_validations: int) -> float | None:
        """Of so many of them: early stopping leaves some out."""
        if self.step_seconds is None:
            return None
        return num_steps * self.step_seconds + num_validations * (self.validation_seconds or 0.0)

    @property
    def fits(self) -> bool | None:
        """Whether the peak fits what is free; not, where what is known of it was too much to try; None where that is not known."""
        if self.step_seconds is None or not (self.largest_tried or self.not_tried):
            return False
        if self.peak is None or self.free is None or self.used_before is None:
            return None
        return self.peak - self.used_before <= self.free

    def to_json(self) -> dict[str, Any]:
        """Every field, and what follows from them."""
        return {**dataclasses.asdict(self), "seconds": self.seconds, "fits": self.fits}

    def sentence(self) -> str:
        """One line for a person."""
        if self.step_seconds is None:
            return (
                f"estimate: no time, for nothing was tried; gradients {gigabytes(self.gradients)} GB, optimizer "
                f"{gigabytes(self.optimizer)}, and {gigabytes(self.free)} GB are free"
            )
        text = f"estimate: {duration(self.seconds)} for {self.num_steps:,} steps ({duration(self.step_seconds)} each)"
        if self.num_validations and self.validation_seconds:
            text += f" and {self.num_validations} validations ({duration(self.validation_seconds)} each)"
        if self.not_tried:
            text += f"; not tried, for one try took more than a minute: {', '.join(self.not_tried)}"
        if self.peak is None:
            return text
        named = {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations")}
        named["program, data and buffers"] = max(self.peak - sum(named.values()), 0)
        text += f"; peak {gigabytes(self.peak)} GB: " + ", ".join(f"{n} {gigabytes(b)}" for n, b in named.items())
        return text if self.free is None else f"{text}; {gigabytes(self.free)} GB are free"


@dataclass(frozen=True)
class Estimates:
    """Of trainings that follow one another, by name."""

    steps: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Each step's estimate, the sum of their seconds and the highest of their peaks; None where that of a step is not known."""
        seconds, peaks = [step.seconds for step in self.steps.values()], [step.peak for step in self.steps.values()]
        return {
            "steps": {name: step.to_json() for name, step in self.steps.items()},
            "seconds": None if None in seconds else sum(seconds),
            "peak": None if None in peaks else max(peaks),
        }


def gigabytes(number: int) -> str:
    """A number of bytes in GB, two decimals."""
    return f"{number / 1e9:.2f}"
