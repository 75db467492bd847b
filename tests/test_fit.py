"""The small training loop: known answers, resuming, several processes, errors."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F

from llmrec.errors import ArtifactError, DataError, ModelError
from llmrec.fit import Criterion, Schedule, _seed_of_step, fit

LOWER = Criterion("loss", greater_is_better=False)


class Problem:
    """Lines y = 3 x - 1 with noise, a small network with dropout, and AdamW."""

    def __init__(self, *, dropout: float = 0.1, num_examples: int = 50) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.rand(num_examples, 1, generator=generator)
        self.y = 3 * self.x - 1 + 0.01 * torch.randn(num_examples, 1, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)

    def loss_of(self, examples):
        return F.mse_loss(self.model(self.x[examples]), self.y[examples], reduction="sum"), len(examples)

    def validate(self):
        return {"loss": F.mse_loss(self.model(self.x), self.y).item()}

    def fit(self, *, epochs: int = 6, patience: int = 99, seed: int = 0, validate=None, every: int = 5, **more):
        schedule = Schedule(8, epochs, patience, lambda step: step % every == 0)
        return fit(
            self.model, self.loss_of, len(self.x), self.optimizer, schedule,
            validate=validate or self.validate, criterion=LOWER, seed=seed, name="a line", **more,
        )  # fmt: skip

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def test_the_loss_falls_and_the_weights_are_those_of_the_best_validation():
    problem = Problem()
    lines = problem.fit(epochs=30)
    assert [line["step"] for line in lines] == list(range(5, 211, 5))  # 7 batches an epoch
    assert lines[-1]["train_loss"] < 0.2 * lines[0]["train_loss"]
    assert problem.validate()["loss"] == pytest.approx(min(line["loss"] for line in lines))


def test_the_seed_decides_and_the_global_random_numbers_stay():
    state = torch.get_rng_state()
    first, again, other = Problem(), Problem(), Problem()
    first.fit(), again.fit(), other.fit(seed=1)
    assert torch.equal(first.weights, again.weights) and not torch.equal(first.weights, other.weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_stops_after_validations_without_a_better_one():
    values = iter([3.0, 2.0, 2.5, 2.1, 1.0])
    problem, kept = Problem(), []

    def validate():
        kept.append(problem.weights)
        return {"loss": next(values)}

    lines = problem.fit(patience=2, validate=validate)
    assert [line["loss"] for line in lines] == [3.0, 2.0, 2.5, 2.1]
    assert torch.equal(problem.weights, kept[1])


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [1, 3, 7])
def test_a_killed_training_goes_on_to_the_very_weights_of_an_unbroken_one(tmp_path, killed_at):
    unbroken = Problem()
    lines = unbroken.fit()
    broken, seen = Problem(), []

    def validate():
        seen.append(None)
        if len(seen) == killed_at + 1:
            raise Killed
        return broken.validate()

    with pytest.raises(Killed):
        broken.fit(validate=validate, folder=tmp_path / "state")
    resumed, again = Problem(), []
    assert resumed.fit(folder=tmp_path / "state", validate=lambda: again.append(0) or resumed.validate()) == lines
    assert len(again) == len(lines) - killed_at and torch.equal(resumed.weights, unbroken.weights)
    assert not (tmp_path / "state").exists()


def test_the_state_of_another_or_a_damaged_training_is_refused(tmp_path):
    def stop():
        raise Killed

    def validations(number):
        return iter([lambda: {"loss": 1.0}] * number + [stop])

    def broken(folder):
        calls = validations(1)
        with pytest.raises(Killed):
            Problem().fit(validate=lambda: next(calls)(), folder=folder)

    broken(tmp_path / "state")
    with pytest.raises(ArtifactError, match="another a line"):
        Problem().fit(seed=3, folder=tmp_path / "state")
    (tmp_path / "state" / "state.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="damaged"):
        Problem().fit(folder=tmp_path / "state")


def test_divergence_and_no_examples_are_sentences():
    with pytest.raises(ModelError, match=r"diverged.*after step 5"):
        Problem().fit(validate=lambda: {"loss": float("nan")})
    with pytest.raises(DataError, match="no examples"):
        Problem(num_examples=0).fit()


def test_what_a_step_draws_depends_on_seed_step_and_process_alone():
    seeds = {_seed_of_step(seed, step, process) for seed in (0, 1) for step in (0, 1) for process in (0, 1)}
    assert len(seeds) == 8 and _seed_of_step(0, 1, 0) == _seed_of_step(0, 1, 0)
    noisy, quiet = Problem(dropout=0.5), Problem(dropout=0.5)

    def validate():
        torch.rand(7)  # a validation that draws changes no step
        return noisy.validate()

    noisy.fit(validate=validate), quiet.fit()
    assert torch.equal(noisy.weights, quiet.weights)


def test_a_language_model_s_trainer_after_it_still_chooses_its_precision(monkeypatch):
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # what all Accelerators of a program share
    Problem().fit(epochs=1)
    assert Accelerator(mixed_precision="bf16").mixed_precision == "bf16"


def in_two_processes(script: str, *arguments: str) -> None:
    """Runs a script by `accelerate launch`, which starts several processes under the name multi_gpu, on CPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
               "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no", script, *arguments]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    subprocess.run(command, check=True, env=environment)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import torch
            from accelerate import PartialState
            from tests.test_fit import Problem

            PartialState(cpu=True)
            problem = Problem(dropout=0.0, num_examples=51)  # the last batch has 3 examples: 2 and 1
            problem.fit(epochs=4)
            if PartialState().is_main_process:
                torch.save(problem.weights, sys.argv[1])
            """
        )
    )
    in_two_processes(str(script), str(tmp_path / "weights"))
    alone = Problem(dropout=0.0, num_examples=51)
    alone.fit(epochs=4)
    assert torch.allclose(torch.load(tmp_path / "weights", weights_only=True), alone.weights, atol=1e-6)


class Falling:
    """One weight that falls by one a step: the loss is the weight itself, and so its gradient is one."""

    def __init__(self, slope: float = 1.0) -> None:
        self.model, self.slope = nn.Linear(1, 1, bias=False), slope
        nn.init.zeros_(self.model.weight)
        self.found: list[float] = []

    def fit(self, steps: int, *, validated: bool = True, **schedule) -> float:
        def validate():
            self.found.append(self.model.weight.item())
            return {"loss": self.model.weight.item()}

        fit(
            self.model, lambda rows: (self.slope * self.model.weight.sum(), 1), 1,
            torch.optim.SGD(self.model.parameters(), lr=1.0),
            Schedule(1, steps, 99, lambda step: True, **schedule),
            validate=validate if validated else None, criterion=LOWER, seed=0, name="a weight",
        )  # fmt: skip
        return self.model.weight.item()


def test_averaged_weights_are_a_plain_mean_at_first_and_an_exponential_one_then():
    problem = Falling()
    result = problem.fit(4, average=0.5)  # weights -1, -2, -3, -4
    expected = [-1, -1.5, 0.5 * -1.5 + 0.5 * -3, 0.5 * -2.25 + 0.5 * -4]
    assert problem.found == pytest.approx(expected) and result == pytest.approx(expected[-1])
    assert Falling().fit(4, validated=False, average=0.5) == pytest.approx(expected[-1])
    assert Falling().fit(4) == -4


def test_gradients_are_clipped_to_a_norm():
    assert Falling(slope=10.0).fit(2, clip=3.0) == pytest.approx(-6, rel=1e-5)
    assert Falling(slope=2.0).fit(2, clip=3.0) == pytest.approx(-4)


def test_what_validations_found_is_reported_as_they_come():
    problem, said = Problem(), []
    lines = problem.fit(report=lambda found: said.append(len(found)))
    assert said == list(range(1, len(lines) + 1))
