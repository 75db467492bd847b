"""Time and memory of a training before it starts, by running a few of its own batches, and next to it what was measured afterwards.

A formula would have to know every architecture, precision and packing. Instead a short, a usual, a long and the largest batch go
forward and backward on the real model, AdamW makes steps that move nothing, and a few validation instances are
ranked (`llmrec.training.probes`). The training that follows is the same, bit for bit, as one without an estimate.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType

from llmrec.files import write_json
from llmrec.training.cost import FILE, Estimate, gigabytes
from llmrec.training.memory import Peak, free_bytes, used_bytes
from llmrec.training.probes import (
    MARGIN,
    Ranked,
    adamw_bytes,
    left_as_it_was,
    settle,
    storage_bytes,
    try_batches,
    try_optimizer,
    try_validation,
)
from llmrec.training.progress import duration
from llmrec.training.ranking_trainer import RankingTrainer

# seconds that more batches, and ranking, may be tried; or this share of all steps where that is more, but never more than so long
SETTLING, RANKING, SHARE, LONGEST = 3.0, 10.0, 0.02, 30.0


def estimate(trainer: RankingTrainer, *, num_instances: int, done: int = 0) -> Estimate | None:
    """Tries batches of `trainer` before it trains; None where the model is to be sharded, which no single process can try.

    num_instances: validation instances that a ranking asks; 0 leaves validation out. done: steps that a resumed training did before.
    """
    if trainer.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return None
    objective, device = trainer.model, trainer.args.device
    used_before, free = used_bytes(device), free_bytes(device)
    peak, (steps, validations) = Peak(device), _steps(trainer, done)
    trained = [p for p in objective.parameters() if p.requires_grad]
    counts = {
        "num_steps": steps,
        "num_validations": validations,
        "trained_parameters": sum(p.numel() for p in trained),
        "frozen_parameters": sum(p.numel() for p in objective.parameters() if not p.requires_grad),
        "weights": storage_bytes([*objective.parameters(), *objective.buffers()]),
        "gradients": storage_bytes(trained),
        "used_before": used_before,
        "free": free,
    }
    least = storage_bytes(trained) + adamw_bytes(trained)
    if free is not None and used_before is not None and least > MARGIN * free:
        return Estimate(
            **counts, step_seconds=None, validation_seconds=None, optimizer=adamw_bytes(trained), activations=0,
            peak=used_before + least, largest_tried=False,
        )  # fmt: skip
    with left_as_it_was(objective):
        state, optimizer_seconds = try_optimizer(trainer)  # which stays, as it does in training
        tried = try_batches(trainer, free)
        step_seconds = trainer.args.gradient_accumulation_steps * tried.seconds + optimizer_seconds
        share = min(SHARE * steps * step_seconds, LONGEST)
        if tried.largest and not tried.not_tried:  # settling goes through batches of all sizes
            settle(trainer, peak, budget=max(SETTLING, share))
        highest = peak.bytes()
        if tried.not_tried and num_instances:
            ranked = Ranked(None, None, ("validation",))
        else:
            ranked = try_validation(trainer, num_instances, budget=max(RANKING, share))
    if highest is not None:
        highest = max(highest + tried.missing, ranked.peak or 0)
    return Estimate(
        **counts, step_seconds=step_seconds, validation_seconds=ranked.seconds, optimizer=storage_bytes(state),
        activations=tried.activations, peak=highest, largest_tried=tried.largest,
        not_tried=(*tried.not_tried, *ranked.not_tried),
    )  # fmt: skip


def say(expected: Estimate | None) -> None:
    """Prints the estimate, and a second sentence where it does not fit."""
    state = PartialState()
    if expected is None:
        state.print("no estimate of time and memory: the model is sharded, which no single process can try")
        return
    state.print(expected.sentence())
    if expected.step_seconds is None:
        state.print(
            f"warning: gradients and optimizer of {expected.trained_parameters:,} trained parameters alone leave no room for a batch: "
            "train fewer of them (fewer parts, a lower lora.rank), or take a machine with more memory"
        )
    elif expected.fits is False:
        state.print(
            f"warning: this training needs {gigabytes(expected.peak - expected.used_before)} GB more, but only "
            f"{gigabytes(expected.free)} GB are free: lower training.batch_size (and raise training.gradient_accumulation), "
            "prompt.max_history or backbone.num_layers, or take a machine with more memory"
        )


@contextlib.contextmanager
def measured(trainer: RankingTrainer, expected: Estimate | None, folder: Path, *, done: int = 0) -> Iterator[None]:
    """Around the training: prints, and writes to folder/estimate.json, what it took next to what was expected.

    done: steps that a resumed training did before; cpu_seconds are of those, too.
    """
    peak, start = Peak(trainer.args.device), time.perf_counter()
    yield
    seconds, highest, cpu_seconds = time.perf_counter() - start, peak.bytes(), trainer.cpu_seconds()
    if expected is None or not trainer.is_world_process_zero():
        return
    steps = trainer.state.global_step - done
    monitored = f"eval_{trainer.args.metric_for_best_model}"
    validated = [log for log in trainer.state.log_history if monitored in log and log["step"] > done]
    foreseen = expected.seconds_of(steps, len(validated))  # early stopping may have left some out
    found = {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "peak": highest, "num_steps": steps, "num_validations": len(validated),
    }  # fmt: skip
    write_json(
        folder / FILE, {"estimate": expected.to_json(), "measured": found, "estimated_seconds_of_measured": foreseen}
    )
    text = f"measured: {duration(seconds)} for {steps:,} steps"
    if foreseen is not None:
        text += f" (estimate: {duration(foreseen)})"
    if highest is not None and expected.peak is not None:
        text += f", peak {gigabytes(highest)} GB (estimate: {gigabytes(expected.peak)})"
    print(text)


def _steps(trainer: RankingTrainer, done: int) -> tuple[int, int]:
    """Optimiser steps and validations that are still to come, the last step validated too, if nothing stops it early."""
    arguments = trainer.args
    batches = math.ceil(len(trainer.train_dataset) / (arguments.train_batch_size * arguments.world_size))
    an_epoch = math.ceil(batches / arguments.gradient_accumulation_steps)
    total = arguments.max_steps if arguments.max_steps > 0 else math.ceil(an_epoch * arguments.num_train_epochs)
    every = int(arguments.eval_steps)
    return max(total - done, 0), math.ceil(total / every) - done // every if done < total else 0
