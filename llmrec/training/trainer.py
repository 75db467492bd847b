"""Trains a recipe's objective, or goes on training it: estimate first, checkpoints, the best weights at the end."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from llmrec.backbones.adapters import trainable_parts
from llmrec.backbones.frozen_linear import frozen_weights_packed
from llmrec.training.checkpoints import (
    CHECKPOINTS,
    LOG,
    EndsAt,
    EndsOnce,
    FindsBest,
    LogLines,
    MarkComplete,
    last_complete_checkpoint,
    step_of,
    sweep_training,
    was_over,
)
from llmrec.training.estimate import estimate, measured, say
from llmrec.training.objectives import Batch, Objective
from llmrec.training.progress import ProgressLines, print_parts
from llmrec.training.ranking_trainer import (
    NDCG,
    Criterion,
    RankingTrainer,
    TrainingExamples,
)
from llmrec.training.settings import TrainingSettings
from llmrec.training.sharded import make_plain, make_shardable

REFIT = "refit"  # the folder, in a run's, of the training on train+valid


def train(
    objective: Objective,
    rows: TrainingExamples,
    collate: Callable[[list[Any]], Batch],
    rank_validation: Callable[..., dict[str, float]],
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    num_instances: int = 0,
    dry_run: bool = False,
    criterion: Criterion = NDCG,
    callbacks: Sequence[TrainerCallback] = (),
) -> RankingTrainer:
    """Trains, or goes on training from the last complete checkpoint under folder/checkpoints, and leaves the best weights in place.

    Args:
        rows: examples that `collate` turns into batches; `len(rows)` is one epoch.
        rank_validation: metric name -> value on the validation instances, or on the first so many of them; must hold the criterion's.
        num_instances: how many validation instances there are; 0 leaves their time out of the estimate.
        dry_run: stop once time and memory have been estimated.
        criterion: the metric whose best checkpoint is kept.
        callbacks: a recipe's own, such as one that is told the step.

    Returns: the trainer; its `state.best_metric` is the criterion's best value, its `estimate` what was expected,
    None where nothing was left to train.
    """
    arguments = training_arguments(settings, folder, num_rows=len(rows), seed=seed, criterion=criterion)
    own = [EndsOnce(settings.patience), FindsBest(), ProgressLines(criterion.metric), *callbacks]
    trainer = _trainer(objective, rows, collate, rank_validation, settings, folder, arguments, own)
    checkpoint = last_complete_checkpoint(folder / CHECKPOINTS)
    done = step_of(checkpoint) if checkpoint else 0
    with _faster(trainer):
        if checkpoint and was_over(checkpoint):
            trainer.accelerator.print(
                f"the training was over at step {done}: its best weights are read, nothing is tried"
            )
        else:
            trainer.estimate = estimate(trainer, num_instances=num_instances, done=done)
            say(trainer.estimate)
        if dry_run:
            return trainer
        scalars = make_shardable(objective, trainer.accelerator)
        with measured(trainer, trainer.estimate, folder, done=done):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        make_plain(objective, scalars)
    return trainer


def refit(
    objective: Objective,
    rows: TrainingExamples,
    collate: Callable[[list[Any]], Batch],
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    chosen: TrainerState,
) -> None:
    """Trains a fresh model on more rows for exactly the steps that a validation found best, or goes on doing so.

    Nothing is validated: the rows it would be validated on are among those learned from. The learning rate goes as it went in the
    training that found the steps, so that the last step here is what the best one was there.

    Args:
        objective: the model as it was before the training that found the steps.
        chosen: the state that training ended with: its `best_global_step` of `max_steps` planned.
    """
    planned = settings.model_copy(update={"max_steps": chosen.max_steps})
    arguments = training_arguments(planned, folder, num_rows=len(rows), seed=seed, validates=False)
    steps = chosen.best_global_step
    trainer = _trainer(objective, rows, collate, dict, settings, folder, arguments, [EndsAt(steps), ProgressLines("")])
    trainer.accelerator.print(f"refit: {steps:,} steps on {len(rows):,} examples, those of validation among them")
    checkpoint = last_complete_checkpoint(folder / CHECKPOINTS)
    with _faster(trainer):
        scalars = make_shardable(objective, trainer.accelerator)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        make_plain(objective, scalars)


def _trainer(
    objective: Objective, rows: TrainingExamples, collate: Callable[[list[Any]], Batch],
    rank_validation: Callable[..., dict[str, float]], settings: TrainingSettings, folder: Path,
    arguments: TrainingArguments, callbacks: Sequence[TrainerCallback],
) -> RankingTrainer:  # fmt: skip
    """Says what is trained, and leaves nothing half-written of an earlier try."""
    folder.mkdir(parents=True, exist_ok=True)
    rates = settings.model_dump(include={"adapter_lr", "embedding_lr", "weight_decay"})
    parts = trainable_parts(objective.backbone, **rates)
    print_parts(objective.backbone, parts, num_rows=len(rows))
    trainer = RankingTrainer(
        model=objective,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,  # the Trainer asks for one; `evaluate` ranks the validation instances instead
        data_collator=collate,
        parts=parts,
        rank_validation=rank_validation,
        by_user=settings.packing == "branches",
        callbacks=[*callbacks, LogLines(folder / LOG), MarkComplete()],
    )
    if trainer.is_world_process_zero():
        sweep_training(folder)
    return trainer


def _faster(trainer: RankingTrainer) -> AbstractContextManager[object]:
    """Frozen weights packed, but where they are sharded and must stay so."""
    is_sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return nullcontext() if is_sharded else frozen_weights_packed(trainer.model.backbone)


def training_arguments(
    settings: TrainingSettings,
    folder: Path,
    *,
    num_rows: int,
    seed: int,
    criterion: Criterion = NDCG,
    validates: bool = True,
) -> TrainingArguments:
    """What transformers' Trainer is told; mixed precision is the backbone's own business, so none is asked for here.

    validates: whether there is a validation at every checkpoint, whose best is read at the end.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate launch
    steps_an_epoch = math.ceil(num_rows / (settings.batch_size * settings.gradient_accumulation * num_processes))
    every = settings.evaluate_every or max(1, steps_an_epoch)
    total = settings.max_steps if settings.max_steps > 0 else int(steps_an_epoch * settings.epochs)
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.adapter_lr,
        lr_scheduler_type="cosine",
        warmup_steps=int(settings.warmup_ratio * total),
        max_grad_norm=settings.max_grad_norm,
        eval_strategy="steps" if validates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=None,  # MarkComplete removes old ones, once the new one is marked
        restore_callback_states_from_checkpoint=True,  # how long there has been no better validation
        load_best_model_at_end=validates,
        metric_for_best_model=criterion.metric if validates else None,
        greater_is_better=criterion.greater_is_better,
        logging_steps=settings.log_every,
        report_to=list(settings.trackers) or "none",
        disable_tqdm=True,  # ProgressLines has a bar of its own
        seed=seed,
        data_seed=seed,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # they are features of items, large and alike everywhere
    )
    # One card a process: nn.DataParallel, which the Trainer takes where a process sees several, would cut packed batches apart.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
