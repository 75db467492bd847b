"""transformers.Trainer with three things of ours: a recipe's objective, a learning rate per part, and validation by ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys
from transformers import PrinterCallback, Trainer
from transformers.integrations import get_available_reporting_integrations

from llmrec.backbones.adapters import TrainablePart, trained_state
from llmrec.backbones.causal_lm import Backbone
from llmrec.config import Settings
from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import write_json
from llmrec.prompting.mixture import Mixture
from llmrec.training.checkpoints import (
    LOSSES,
    ContinuesLoss,
)
from llmrec.training.cost import Estimate
from llmrec.training.samplers import BranchSampler, EpochSampler, LengthSampler, MixtureSampler
from llmrec.training.sharded import whole_outside_layers

Batch = dict[str, torch.Tensor]
ComputeLoss = Callable[[Backbone, Batch], tuple[torch.Tensor, int]]


Packing = Literal["auto", "none", "segments", "branches"]


class Criterion(NamedTuple):
    """What of the validation decides which checkpoint is best."""

    metric: str
    greater_is_better: bool


NDCG = Criterion("ndcg@10", greater_is_better=True)


class TrainingExamples(Protocol):
    """What is trained on: examples for a collator; how long each is (in any unit: batches are made of examples of like length) and
    whose, examples of a user next to each other."""

    lengths: Sequence[int]
    users: Sequence[int]

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


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


class Objective(nn.Module):
    """A backbone and what is minimised on it, as one module, so that every trained parameter is used inside one forward pass.

    Its state holds the trained parameters only: a checkpoint is megabytes, whatever the frozen model weighs.
    """

    def __init__(self, backbone: Backbone, compute_loss: ComputeLoss):
        super().__init__()
        self.backbone = backbone
        self.compute_loss = compute_loss
        self._no_split_modules = backbone.causal_lm._no_split_modules  # the layer classes that FSDP shards one by one

    def forward(
        self, num_items_in_batch: torch.Tensor | int | None = None, **batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The mean loss over the targets of the whole optimiser step, of which this batch may be a part.

        `num_items_in_batch` counts those targets over all micro-batches and processes: eight batches of one then give the
        gradient of one batch of eight, exactly.
        """
        total, count = self.compute_loss(self.backbone, batch)
        return {"loss": total / (count if num_items_in_batch is None else num_items_in_batch)}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The trained parameters."""
        return trained_state(self)

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Loads exactly the trained parameters; a missing or foreign one is an error whatever `strict` says."""
        check_same_parts(state_dict, trained_state(self), "the checkpoint")
        super().load_state_dict(state_dict, strict=False, assign=assign)
        return _IncompatibleKeys([], [])  # the frozen parameters are not missing


def check_same_parts(found: Iterable[str], trained: Iterable[str], where: str) -> None:
    """Raises ArtifactError where what `where` holds is not exactly the model's trained parameters."""
    if different := set(found) ^ set(trained):
        raise ArtifactError(
            f"{where} and the model train different parts, for example {min(different)}; give the settings it was made with, or "
            "start over with --fresh."
        )


class RankingTrainer(Trainer):
    """transformers.Trainer whose evaluation ranks the validation instances (or measures what else a recipe monitors)."""

    def __init__(
        self,
        *args: Any,
        parts: Sequence[TrainablePart],
        rank_validation: Callable[..., dict[str, float]],
        by_user: bool,
        **kwargs: Any,
    ):
        """by_user: batches hold examples of one user rather than examples of like length."""
        self.parts = parts
        self.rank_validation = rank_validation
        self.by_user = by_user
        self.estimate: Estimate | None = None
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)  # raw dicts; ProgressLines says it in words
        self.add_callback(ContinuesLoss(self))

    def _get_train_sampler(self, train_dataset: TrainingExamples | None = None) -> EpochSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset

        def order() -> LengthSampler | BranchSampler:
            if self.by_user:
                return BranchSampler(self.args.train_batch_size, rows.users, self.args.data_seed)
            rows_a_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            return LengthSampler(rows_a_step, rows.lengths, self.args.data_seed)

        self.sampler = MixtureSampler(rows, order) if isinstance(rows, Mixture) else order()
        return self.sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with each part's own learning rate and decay."""
        if self.optimizer is None:
            groups = [
                {"params": list(p.parameters), "lr": p.learning_rate, "weight_decay": p.weight_decay}
                for p in self.parts
            ]
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        return self.optimizer

    def _run_epoch(self, *, epoch: int, **kwargs: Any) -> None:
        """Nothing where the training was over already: the Trainer itself looks at that only after a step."""
        if not self.control.should_training_stop:
            # accelerate does not find the sampler below the batches that a resumed epoch of several processes leaves out
            self.sampler.set_epoch(epoch)
            super()._run_epoch(epoch=epoch, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """With the losses so far, which the Trainer forgets. All processes call it together."""
        losses = {
            "total": self._total_loss_scalar,
            "unlogged": self.accelerator.gather(self._tr_loss.reshape(1)).mean().item(),
            "logged_at": self._globalstep_last_logged,
        }
        super()._save_checkpoint(*args, **kwargs)
        if self.is_world_process_zero():
            write_json(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / LOSSES, losses)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """`train_loss` is of all steps; the Trainer's own is of those since a resume."""
        if "train_loss" in logs:
            logs = {**logs, "train_loss": self._total_loss_scalar / max(self.state.global_step, 1)}
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Ranks the validation instances; returns and logs `eval_<metric>`."""
        with whole_outside_layers(self.model):
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.rank_validation().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
