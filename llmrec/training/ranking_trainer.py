"""transformers.Trainer with two things of ours: a learning rate per part, and validation by ranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from transformers import PrinterCallback, Trainer

from llmrec.backbones.adapters import TrainablePart
from llmrec.files import write_json
from llmrec.prompting.mixture import Mixture
from llmrec.training.checkpoints import (
    LOSSES,
    ContinuesLoss,
)
from llmrec.training.cost import Estimate
from llmrec.training.samplers import BranchSampler, EpochSampler, LengthSampler, MixtureSampler
from llmrec.training.sharded import whole_outside_layers


class Criterion(NamedTuple):
    """What of the validation decides which checkpoint is best."""

    metric: str
    greater_is_better: bool


NDCG = Criterion("ndcg@10", greater_is_better=True)
AUC = Criterion("auc", greater_is_better=True)


class TrainingExamples(Protocol):
    """What is trained on: examples for a collator; how long each is (in any unit: batches are made of examples of like length) and
    whose, examples of a user next to each other."""

    lengths: Sequence[int]
    users: Sequence[int]

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


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
        self.start_clock(0.0)
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)  # raw dicts; ProgressLines says it in words
        self.add_callback(ContinuesLoss(self))

    def start_clock(self, before: float | None) -> None:
        """What `cpu_seconds` counts begins now. before: what an earlier process had taken, None where it did not say."""
        self._cpu_before, self._cpu_began = before, time.process_time()

    def cpu_seconds(self) -> float | None:
        """Process time of the training so far, over all threads and processes, validations too; all processes call it together."""
        own = torch.tensor([time.process_time() - self._cpu_began], device=self.args.device)
        spent = self.accelerator.gather(own).sum().item()
        return None if self._cpu_before is None else self._cpu_before + spent

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
            "cpu_seconds": self.cpu_seconds(),
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
