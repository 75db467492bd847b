"""Runs a little of a training before it starts, on the real model, and leaves everything as it was.

What is tried: steps of AdamW that move nothing; a short, a usual, a long and the largest batch forward and
backward, and more until memory has settled; a few validation instances. Weights, modes and random numbers are afterwards those
before it, and there are no gradients, as before a training.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from llmrec.items.forms import NO_TARGET
from llmrec.recommenders.requests import REQUESTS_AT_ONCE
from llmrec.training.memory import Peak, used_bytes
from llmrec.training.ranking_trainer import RankingTrainer

QUANTILES = (0.1, 0.5, 0.9, 1.0)  # of the batches by size: which ones are tried
LOOKED_AT = 32  # batches of all sizes among which that with the most targets is looked for
PATIENT_SECONDS = 0.5  # batches that take less are timed twice
LONG_TRY = 60.0  # seconds: once a try has taken more, nothing further is tried
SETTLED = 6  # so many batches after one another that took no memory beyond what was taken before
FIRST_CASES, FASTER = (
    8,
    4,
)  # validation instances that are ranked first, and how many times as many then, again and again
MARGIN = 0.9  # of the free memory: what is expected to need more is not tried


@dataclass(frozen=True)
class Tried:
    """seconds: of a batch, on average over an epoch; activations: bytes; missing: bytes by which the largest batch would need more
    than what was tried; not_tried: what was left out because one try took longer than LONG_TRY."""

    seconds: float
    activations: int
    missing: int
    largest: bool  # whether the largest batch was tried
    not_tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """seconds: of one validation, None where none was tried; peak: bytes, None where ranking never came above the mark that the process
    had before it; not_tried: as of `Tried`."""

    seconds: float | None
    peak: int | None
    not_tried: tuple[str, ...] = ()


def try_batches(trainer: RankingTrainer, free: int | None) -> Tried:
    """Those of QUANTILES, and for its memory that with the most targets: each may cost logits over the whole vocabulary."""
    batches, sizes = _batches(trainer)
    by_size = np.argsort(sizes, kind="stable")
    picked = [int(by_size[round(q * (len(batches) - 1))]) for q in QUANTILES]
    usual, largest = picked[1], picked[-1]
    usual_bytes, usual_tokens, usual_seconds = _saved_bytes(trainer, batches[usual])  # also warms up
    tokens = _batch(trainer, batches[largest])["input_ids"].numel()
    foreseen = int(usual_bytes * tokens / max(usual_tokens, 1))
    if usual_seconds > LONG_TRY:  # in proportion, as far as one batch tells
        mean = usual_seconds * float(sizes.mean()) / float(sizes[usual])
        return Tried(mean, foreseen, foreseen - usual_bytes, False, ("a short, a long and the largest batch",))
    trained = storage_bytes([p for p in trainer.model.parameters() if p.requires_grad])
    if free is not None and foreseen + 3 * trained > MARGIN * free:
        tried, activations, missing = picked[:2], foreseen, foreseen - usual_bytes
    else:
        looked_at = by_size[np.linspace(0, len(batches) - 1, min(len(batches), LOOKED_AT)).astype(int)].tolist()
        wordiest = max(looked_at, key=lambda pick: _num_targets(trainer, batches[pick]))
        tried, missing = picked, 0
        activations, _, seconds = _saved_bytes(trainer, batches[largest])
        if seconds > LONG_TRY:
            mean = _mean_seconds(sizes, {usual: usual_seconds, largest: seconds})
            return Tried(mean, activations, missing, True, ("a short, a long and the wordiest batch",))
        if wordiest != largest:
            activations = max(activations, _saved_bytes(trainer, batches[wordiest])[0])
    seconds = {pick: _batch_seconds(trainer, batches[pick]) for pick in dict.fromkeys(tried)}
    for pick, first in seconds.items():
        if first < PATIENT_SECONDS:
            seconds[pick] = (first + _batch_seconds(trainer, batches[pick])) / 2
    return Tried(_mean_seconds(sizes, seconds), activations, missing, tried is picked)


def settle(trainer: RankingTrainer, peak: Peak, *, budget: float) -> None:
    """More batches, until they take no more memory: an allocator on the CPU takes what lies between those in use, too, and
    comes to its most after some tens of batches. `budget`: seconds that this may take, or a batch longer."""
    if trainer.args.device.type != "cpu" or peak.bytes() is None:
        return  # elsewhere tensors are counted, not what lies between them
    batches, _ = _batches(trainer)
    start, without_more, highest = time.perf_counter(), 0, peak.bytes()
    for rows in batches:  # in the order of the epoch, which mixes their sizes
        if without_more == SETTLED or time.perf_counter() - start > budget:
            return
        _forward_backward(trainer, rows)
        without_more = without_more + 1 if peak.bytes() == highest else 0
        highest = peak.bytes()


def _batches(trainer: RankingTrainer) -> tuple[list[list[int]], np.ndarray]:
    """The first epoch's batches, as rows, and how large each is, float64 (number of them,)."""
    order, lengths = list(trainer._get_train_sampler()), trainer.train_dataset.lengths
    size = trainer.args.train_batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return batches, np.array([sum(lengths[row] for row in batch) for batch in batches], dtype=np.float64)


def _num_targets(trainer: RankingTrainer, rows: Sequence[int]) -> int:
    return sum(int((trainer.train_dataset[row]["labels"] != NO_TARGET).sum()) for row in rows)


def _mean_seconds(sizes: np.ndarray, seconds: dict[int, float]) -> float:
    """The mean over all batches, from those timed: a straight line in the batch's size, level where noise would let it fall."""
    x, y = sizes[list(seconds)], np.array(list(seconds.values()))
    if np.ptp(x) == 0:
        return float(y.mean())
    slope = max(float(np.polyfit(x, y, 1)[0]), 0.0)
    return max(float(y.mean()) + slope * float(sizes.mean() - x.mean()), float(y.min()))


def _batch(trainer: RankingTrainer, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    batch = trainer.data_collator([trainer.train_dataset[row] for row in rows])
    return {name: tensor.to(trainer.args.device) for name, tensor in batch.items()}


def _forward_backward(trainer: RankingTrainer, rows: Sequence[int]) -> None:
    """One batch as training takes it."""
    batch = _batch(trainer, rows)
    trainer.model(**batch)["loss"].backward()
    if trainer.args.gradient_accumulation_steps == 1:  # else a batch finds the gradients of those before it in memory
        trainer.model.zero_grad(set_to_none=True)


def _batch_seconds(trainer: RankingTrainer, rows: Sequence[int]) -> float:
    return seconds_of(trainer.args.device, lambda: _forward_backward(trainer, rows))


def _saved_bytes(trainer: RankingTrainer, rows: Sequence[int]) -> tuple[int, int, float]:
    """Bytes that the forward pass keeps for the backward pass, parameters left out; the batch's tokens; and seconds that it took."""
    parameters = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold the graph that holds it

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        seconds = _batch_seconds(trainer, rows)
    return sum(kept.values()), _batch(trainer, rows)["input_ids"].numel(), seconds


def adamw_bytes(trained: Iterable[torch.Tensor]) -> int:
    """What AdamW keeps of them: two moments, of float32 as they are, and a count of steps each."""
    return sum(2 * p.numel() * p.element_size() + torch.float32.itemsize for p in trained)


def try_optimizer(trainer: RankingTrainer) -> tuple[list[torch.Tensor], float]:
    """AdamW's state, and seconds of its step with the clipping before it: of no gradient and no learning rate, so that nothing moves.

    On the parameters themselves: copies would need memory that the training does not.
    """
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)

    def step() -> None:
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    seconds = seconds_of(trainer.args.device, step)  # makes the state
    if seconds <= LONG_TRY:
        seconds = seconds_of(trainer.args.device, step)
    trainer.model.zero_grad(set_to_none=True)
    state = [value for one in optimizer.state.values() for value in one.values() if isinstance(value, torch.Tensor)]
    return state, seconds


def try_validation(trainer: RankingTrainer, num_instances: int, *, budget: float) -> Ranked:
    """One validation, foreseen from a few instances and some more (a part is the same however many there are).

    budget: seconds that the last and largest ranking may take; some times that where memory would not be known otherwise.
    """
    if num_instances == 0:
        return Ranked(0.0, None)
    device = trainer.args.device
    trainer.model.zero_grad(set_to_none=True)  # a validation comes after a complete step

    def rank(instances: int) -> float:
        return seconds_of(device, lambda: trainer.rank_validation(instances))

    few = ranked = min(FIRST_CASES, num_instances)
    for _ in range(2):  # the first warms up
        before, peak = used_bytes(device), Peak(device)
        mark = peak.bytes()
        few_seconds = seconds = rank(few)
        if seconds > LONG_TRY:
            break
    while ranked < num_instances and seconds <= LONG_TRY:
        more = min(num_instances, FASTER * ranked)
        patience = (
            budget if ranked >= REQUESTS_AT_ONCE else FASTER * budget
        )  # fewer say little of the memory that they take
        if seconds * more / ranked > patience:
            break
        ranked, seconds = more, rank(more)
    highest = peak.bytes()
    if highest == mark:
        highest = None
    at_once, in_all = min(ranked, REQUESTS_AT_ONCE), min(num_instances, REQUESTS_AT_ONCE)
    if highest is not None and before is not None:  # what it took grows with the instances that are ranked at once
        highest = before + (highest - before) * in_all // at_once
    not_tried = (f"more than {ranked} validation instances",) if seconds > LONG_TRY and ranked < num_instances else ()
    if ranked == few:
        return Ranked(seconds * num_instances / ranked, highest, not_tried)
    a_case = max(seconds - few_seconds, 0.0) / (ranked - few)
    return Ranked(seconds + a_case * (num_instances - ranked), highest, not_tried)


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Random numbers and modes after it are those before it; gradients are dropped: a training starts without any."""
    modes = {module: module.training for module in model.modules()}
    states = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    devices = [p.device for p in model.parameters() if p.is_cuda][:1]
    try:
        with torch.random.fork_rng(devices=devices):
            model.train()
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for module, mode in modes.items():
            module.training = mode
        model.zero_grad(set_to_none=True)


def seconds_of(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds on the clock that the device takes for some work, begun and ended with nothing else under way."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """What they take together, tied ones once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
