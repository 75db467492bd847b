"""How long, how fast and in which batches a language model is trained: the same settings in every recipe that trains one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from transformers.integrations import get_available_reporting_integrations

from llmrec.config import Settings
from llmrec.errors import ConfigError

Packing = Literal["auto", "none", "segments", "branches"]


class TrainingSettings(Settings):
    """How long, how fast, and when to stop."""

    epochs: float = Field(5.0, gt=0)
    max_steps: int = -1  # > 0 ends training there, whatever `epochs` says
    batch_size: int = Field(8, ge=1)  # examples per process and forward pass, packed or not
    # none: padded. segments: examples one after the other, a common beginning read once. branches: segments whose batches are made
    # of one user's examples, which share their history. The loss of a batch is the same in all; auto: segments where the model can.
    packing: Packing = "auto"
    gradient_accumulation: int = Field(1, ge=1)
    adapter_lr: float = Field(1e-3, ge=0)
    embedding_lr: float = Field(3e-3, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    max_grad_norm: float = Field(1.0, ge=0)
    evaluate_every: int = Field(0, ge=0)  # optimiser steps between validations and checkpoints; 0: once per epoch
    patience: int = Field(3, ge=1)  # validations without a better one before training stops
    log_every: int = Field(10, ge=1)  # optimiser steps
    trackers: tuple[str, ...] = ()  # any the Trainer knows: tensorboard, wandb, mlflow, ...

    @field_validator("max_steps")
    @classmethod
    def _is_some_or_unset(cls, max_steps: int) -> int:
        if max_steps != -1 and max_steps < 1:
            raise ValueError("expected 1 or more steps, or -1 to go by training.epochs")
        return max_steps

    @field_validator("trackers")
    @classmethod
    def _are_installed(cls, trackers: tuple[str, ...]) -> tuple[str, ...]:
        installed = get_available_reporting_integrations()
        for name in trackers:
            if name not in installed:
                raise ConfigError(
                    f"the tracker '{name}' is not installed here or unknown to the Trainer (there are: "
                    f"{', '.join(installed) or 'none'}). Install it, or leave it out of training.trackers."
                )
        return trackers
