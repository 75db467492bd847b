"""The one small training loop of everything that trains no language model: SASRec, CTR models, and whatever learns by batches.

`accelerate` carries it: started by `accelerate launch` in several processes, each takes its share of every batch, gradients are
summed, and the weights are those of one process; every process calls `fit`. Models here are small, so they stay on the device that
they are on. An `Accelerator` would settle the precision of a language model's training later in the same program, so processes are all
that is used of accelerate.

Letters: N training examples, B examples of a batch.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.errors import ArtifactError, DataError, ModelError
from llmrec.files import atomic_folder, content_hash, read_json, remove_folder, write_json

STATE, PROGRESS = "state.safetensors", "progress.json"


class Criterion(NamedTuple):
    """What of the validation decides which weights are best."""

    metric: str
    greater_is_better: bool


@dataclass(frozen=True)
class Schedule:
    """How long to train and when to look.

    batch_size: examples of a step, over all processes; epochs: at most, and of a refit just so many, which may be a fraction; patience:
    validations without a better one before training stops; validate_after: whether a validation follows a step, counted from 1 (a
    killed training goes on from there). Without a validation the last weights are the result.

    average: 0, or the decay a step of averaged weights, which are then what is validated and what comes out: an exponential mean over
    steps, and a plain one over the first 1 / (1 - average) of them, so that it is never drawn to where the training started (Polyak and
    Juditsky, "Acceleration of stochastic approximation by averaging", 1992). clip: the largest norm of all gradients of a step
    together; None: as they are.
    """

    batch_size: int
    epochs: float
    patience: int
    validate_after: Callable[[int], bool]
    average: float = 0.0
    clip: float | None = None

    def num_steps(self, num_examples: int) -> int:
        """Steps of all epochs."""
        return round(self.epochs * steps_an_epoch(num_examples, self.batch_size))

    def of_steps(self, num_steps: int, num_examples: int) -> Schedule:
        """The same for so many steps alone."""
        return replace(self, epochs=num_steps / steps_an_epoch(num_examples, self.batch_size))


def steps_an_epoch(num_examples: int, batch_size: int) -> int:
    """The last batch of an epoch may be a smaller one."""
    return -(-num_examples // batch_size)


def best_step(validations: Sequence[Mapping[str, float]], criterion: Criterion) -> int:
    """The step of the best validation, the first of equal ones: after so much training a refit stops."""
    sign = -1 if criterion.greater_is_better else 1
    return int(min(validations, key=lambda line: sign * line[criterion.metric])["step"])


@dataclass
class _State:
    """Where a training stands. best: the criterion's best value; loss: summed since the last validation, over `losses` steps."""

    key: str
    step: int = 0
    best: float | None = None
    without_better: int = 0
    loss: float = 0.0
    losses: int = 0
    validations: list[dict[str, float]] = field(default_factory=list)


class _Averages:
    """The mean of a model's weights over steps; where there is none (`average` 0), the weights themselves."""

    def __init__(self, model: nn.Module, average: float) -> None:
        self.decay = average
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad] if average else []
        self.means = [parameter.detach().clone() for parameter in self.parameters]

    def add(self, step: int) -> None:
        """The weights after this step, counted from 1."""
        if self.means:
            torch._foreach_lerp_(self.means, [p.detach() for p in self.parameters], max(1 - self.decay, 1 / step))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has its averaged weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def take(self) -> None:
        """The model has its averaged weights from now on."""
        self._swap()

    def _swap(self) -> None:
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            parameter.data, mean.data = mean.data, parameter.data


def fit(
    model: nn.Module,
    loss_of: Callable[[torch.Tensor], tuple[torch.Tensor, int]],
    num_examples: int,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    validate: Callable[[], dict[str, float]] | None,
    criterion: Criterion,
    seed: int,
    name: str,
    folder: Path | None = None,
    report: Callable[[list[dict[str, float]]], None] | None = None,
) -> list[dict[str, float]]:
    """Trains `model` in place, leaves the weights of its best validation in it, and returns what every validation found.

    The order of an epoch depends on `seed` and the epoch alone, what a step draws (dropout) on `seed`, step and process. A killed
    training goes on from its last validation and ends with the very weights of an unbroken one. torch's global random state stays.

    Args:
        loss_of: examples int64 (B,) -> the loss summed over their targets, a scalar with a gradient, and how many targets there are.
        validate: metric name -> value; it must hold the criterion's. The model is in evaluation mode, without gradients. None: a
            refit, which trains to the schedule's end and keeps the last weights.
        seed: of the order of the examples and of dropout.
        name: what is trained, for the progress bar and for errors.
        folder: where the training is kept between validations; it is removed at the end. None: a killed training starts over.
        report: called in the main process with what all validations found so far, after each and where a killed training goes on.

    Raises:
        DataError: there are no examples.
        ModelError: the training diverged: the criterion is NaN or infinite.
        ArtifactError: `folder` holds another training, or a damaged one.
    """
    if not num_examples:
        raise DataError(f"{name} has no examples to learn from. Use more data.")
    processes = PartialState()
    state = _State(_key(model, num_examples, schedule, seed))
    averages = _Averages(model, schedule.average)
    best_weights = copy.deepcopy(model.state_dict())
    report = report if processes.is_main_process else None
    an_epoch = steps_an_epoch(num_examples, schedule.batch_size)
    total = schedule.num_steps(num_examples)
    is_quiet = not (processes.is_main_process and sys.stderr.isatty())
    with (
        torch.random.fork_rng(devices=[]),
        Progress(console=Console(stderr=True), transient=True, disable=is_quiet) as bar,
    ):
        if folder is not None and folder.exists():
            state, best_weights = _resume(folder, state.key, model, optimizer, averages, name)
            if report is not None:
                report(state.validations)
        task = bar.add_task(f"training {name}", total=total, completed=state.step)
        while state.step < total and state.without_better < schedule.patience:
            epoch, done = divmod(state.step, an_epoch)
            for examples in _order(num_examples, seed, epoch).split(schedule.batch_size)[done:]:
                torch.manual_seed(_seed_of_step(seed, state.step, processes.process_index))
                state.loss += _step(model, loss_of, examples, optimizer, schedule.clip, processes)
                state.losses += 1
                state.step += 1
                averages.add(state.step)
                bar.update(task, completed=state.step)
                if schedule.validate_after(state.step):
                    if validate is not None:
                        with averages.in_place():
                            if _validate(model, validate, criterion, state, name):
                                best_weights = copy.deepcopy(model.state_dict())
                    if folder is not None and processes.is_main_process:
                        _save(folder, state, model, best_weights, optimizer, averages)
                    if validate is not None and report is not None:
                        report(state.validations)
                if state.step == total or state.without_better == schedule.patience:
                    break
    if state.validations:
        model.load_state_dict(best_weights)
    else:
        averages.take()
    model.eval()
    processes.wait_for_everyone()
    if folder is not None and folder.exists() and processes.is_main_process:
        remove_folder(folder)
    return state.validations


def _order(num_examples: int, seed: int, epoch: int) -> torch.Tensor:
    """int64 (N,)."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(num_examples))


def _seed_of_step(seed: int, step: int, process: int) -> int:
    """With a seed a step there is no random state to keep for resuming."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0])


def _step(
    model: nn.Module,
    loss_of: Callable[[torch.Tensor], tuple[torch.Tensor, int]],
    examples: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    processes: PartialState,
) -> float:
    """One step on the batch, of which every process takes its share; returns the mean loss over the targets of the whole batch."""
    model.train()
    optimizer.zero_grad()
    share = examples[processes.process_index :: processes.num_processes]
    loss, count = loss_of(share) if len(share) else (torch.zeros(()), 0)
    numbers = torch.tensor([float(loss.detach()), float(count)], dtype=torch.float64)
    total, targets = reduce(numbers.to(processes.device), "sum").tolist()
    if not targets:
        return 0.0
    if count:
        (loss / targets).backward()
    if processes.num_processes > 1:
        for parameter in model.parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = reduce(gradient.to(processes.device), "sum").to(parameter.device)
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return total / targets


def _validate(
    model: nn.Module, validate: Callable[[], dict[str, float]], criterion: Criterion, state: _State, name: str
) -> bool:
    """Adds a line to the state's validations; whether it is the best so far."""
    model.eval()
    with torch.no_grad():
        found = validate()
    value = found[criterion.metric]
    if not np.isfinite(value):
        raise ModelError(
            f"the training of {name} diverged: its {criterion.metric} on validation is {value} after step {state.step}. Lower lr, or "
            "check that the features are finite."
        )
    state.validations.append({"step": state.step, "train_loss": state.loss / state.losses, **found})
    state.loss, state.losses = 0.0, 0
    is_better = state.best is None or (value > state.best if criterion.greater_is_better else value < state.best)
    state.best, state.without_better = (value, 0) if is_better else (state.best, state.without_better + 1)
    return is_better


def _key(model: nn.Module, num_examples: int, schedule: Schedule, seed: int) -> str:
    """What tells a training from another one: the weights it starts from, and its schedule."""
    weights = [part for name, tensor in model.state_dict().items() for part in (name, tensor.detach().cpu().numpy())]
    plan = (
        num_examples,
        schedule.batch_size,
        schedule.epochs,
        schedule.patience,
        schedule.average,
        schedule.clip,
        seed,
    )
    return content_hash(" ".join(map(str, plan)), *weights)


def _save(
    folder: Path,
    state: _State,
    model: nn.Module,
    best_weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    averages: _Averages,
) -> None:
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best_weights.items()}
    tensors |= {f"average/{index}": tensor for index, tensor in enumerate(averages.means)}
    for index, of_parameter in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in of_parameter.items()}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / STATE)
        write_json(temporary / PROGRESS, asdict(state))


def _resume(
    folder: Path, key: str, model: nn.Module, optimizer: torch.optim.Optimizer, averages: _Averages, name: str
) -> tuple[_State, dict[str, torch.Tensor]]:
    """Puts what `_save` wrote back into model and optimiser."""
    try:
        state = _State(**read_json(folder / PROGRESS, f"progress of the training of {name}", ArtifactError))
        tensors = load_file(folder / STATE)
    except (TypeError, OSError, SafetensorError) as error:
        raise ArtifactError(
            f"the kept training of {name} in '{folder}' is damaged ({error}); delete that folder."
        ) from error
    if state.key != key:
        raise ArtifactError(
            f"'{folder}' holds the training of another {name}: other data, settings or seed. Delete that folder, or put them back."
        )

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {at.removeprefix(prefix): tensor for at, tensor in tensors.items() if at.startswith(prefix)}

    model.load_state_dict(under("model/"))
    for index, mean in enumerate(averages.means):
        mean.copy_(tensors[f"average/{index}"])
    of_parameters: dict[int, dict[str, torch.Tensor]] = {}
    for at, tensor in under("optimizer/").items():
        index, _, entry = at.partition("/")
        of_parameters.setdefault(int(index), {})[entry] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": of_parameters})
    return state, under("best/")
