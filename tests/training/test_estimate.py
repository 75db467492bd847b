"""The estimate before a training: what it says, and that it changes nothing."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.numpy import load_file
from torch import nn

from llmrec.training import estimate as module
from llmrec.training import probes, trainer
from llmrec.training.cost import Estimate
from llmrec.training.estimate import say
from tests.apps.calling import call_alone
from tests.recipes.running import launch, run_here, settings

KNOWN = Estimate(
    num_steps=100, step_seconds=2.0, num_validations=4, validation_seconds=10.0, trained_parameters=10, frozen_parameters=90,
    weights=400_000_000, gradients=40_000_000, optimizer=80_000_000, activations=1_000_000_000, peak=2_000_000_000,
    used_before=500_000_000, free=1_600_000_000, largest_tried=True,
)  # fmt: skip


class Squares(nn.Module):
    """loss = sum of (x w)^2: the forward pass keeps x (N, 3) and y = x w (N, 5) for the backward pass."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 5))

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((input_ids.float() @ self.weight) ** 2).sum()}


def known_trainer(model: nn.Module, **arguments: int) -> SimpleNamespace:
    """As much of a trainer as the probes look at: rows of three numbers."""
    arguments = {"train_batch_size": 4, "gradient_accumulation_steps": 1, "world_size": 1} | arguments
    return SimpleNamespace(
        model=model,
        args=SimpleNamespace(device=torch.device("cpu"), **arguments),
        data_collator=lambda rows: {"input_ids": torch.stack(rows)},
        train_dataset=[torch.arange(3) for _ in range(8)],
    )


def test_bytes_kept_for_the_backward_pass_are_counted_without_the_parameters():
    kept, tokens, seconds = probes._saved_bytes(known_trainer(Squares()), [0, 1, 2, 3])
    assert (kept, tokens) == (4 * 3 * 4 + 4 * 5 * 4, 12) and seconds > 0


def test_adamw_keeps_two_numbers_a_parameter_and_a_count():
    model = Squares()
    state, seconds = probes.try_optimizer(known_trainer(model))
    assert probes.storage_bytes(state) == probes.adamw_bytes(model.parameters()) == 2 * 15 * 4 + 4 and seconds > 0
    assert torch.equal(model.weight, torch.ones(3, 5)) and model.weight.grad is None


def test_gradients_stay_in_memory_where_a_step_has_several_batches():
    model = Squares()
    probes._forward_backward(known_trainer(model, gradient_accumulation_steps=2), [0, 1])
    assert model.weight.grad is not None
    probes._forward_backward(known_trainer(model), [0, 1])
    assert model.weight.grad is None


@pytest.mark.parametrize(("done", "left"), [(0, (5, 3)), (2, (3, 2)), (4, (1, 1)), (5, (0, 0))])
def test_the_last_step_is_validated_once_too(done, left):
    trainer = known_trainer(Squares(), max_steps=5, eval_steps=2)
    assert module._steps(trainer, done) == left


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([1000, 1400], 1000 + 400 * 20 // 8),  # twenty at once take more than the eight tried
        ([7000, 7000], None),  # the mark of what came before could not be set back
    ],
)
def test_the_memory_of_a_ranking_is_what_it_added(monkeypatch, marks, expected):
    class Peak:
        def __init__(self, device):
            self.marks = iter(marks)

        def bytes(self):
            return next(self.marks)

    monkeypatch.setattr(probes, "Peak", Peak)
    monkeypatch.setattr(probes, "used_bytes", lambda device: 1000)
    trainer = known_trainer(Squares())
    trainer.rank_validation = lambda instances: None
    found = probes.try_validation(trainer, 20, budget=-1.0)  # no time for more than eight
    assert found.peak == expected and not found.not_tried


def test_the_batch_with_the_most_targets_is_known():
    rows = [{"labels": np.array([-100, -100, 3])}, {"labels": np.array([4, 5])}]
    assert probes._num_targets(SimpleNamespace(train_dataset=rows), [0]) == 1
    assert probes._num_targets(SimpleNamespace(train_dataset=rows), [0, 1]) == 3


def test_the_mean_batch_lies_on_the_line_through_those_timed():
    sizes = np.array([10.0, 10.0, 20.0, 40.0])
    assert probes._mean_seconds(sizes, {0: 1.0, 2: 2.0, 3: 4.0}) == pytest.approx(2.0)
    assert probes._mean_seconds(sizes, {0: 3.0, 3: 1.0}) == pytest.approx(2.0), "noise makes no batch free"
    assert probes._mean_seconds(np.ones(3), {0: 1.0, 1: 2.0}) == pytest.approx(1.5)


def test_random_numbers_and_modes_are_left_as_they_were_and_gradients_dropped():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    with probes.left_as_it_was(model):
        assert model.training
        model(torch.ones(1, 2)).sum().backward()
        np.random.rand(5)  # noqa: NPY002
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_the_sentence_names_the_parts_and_a_training_that_does_not_fit_is_warned_of(capsys):
    say(KNOWN)
    said = capsys.readouterr().out
    assert "4.0 min for 100 steps (2 s each) and 4 validations (10 s each); peak 2.00 GB" in said
    assert "program, data and buffers 0.48; 1.60 GB are free" in said and "warning" not in said
    say(dataclasses.replace(KNOWN, free=1_400_000_000))
    warning = capsys.readouterr().out.splitlines()[1]
    assert warning.startswith("warning: this training needs 1.50 GB more, but only 1.40 GB are free: lower")
    assert dataclasses.replace(KNOWN, peak=None).fits is None


def test_an_optimizer_that_cannot_fit_is_not_tried_and_the_training_is_warned_of(monkeypatch, capsys):
    trainer = known_trainer(Squares(), max_steps=5, eval_steps=2)
    trainer.accelerator = SimpleNamespace(distributed_type=DistributedType.NO)
    trainer.model.forward = trainer.rank_validation = None  # whoever tries anything fails
    least = 3 * 15 * 4 + 4
    monkeypatch.setattr(module, "free_bytes", lambda device: least)
    monkeypatch.setattr(module, "used_bytes", lambda device: 1000)
    found = module.estimate(trainer, num_instances=3)
    assert (found.peak, found.optimizer, found.gradients) == (1000 + least, 2 * 15 * 4 + 4, 15 * 4)
    assert found.step_seconds is None and found.seconds is None and found.fits is False
    assert trainer.model.weight.grad is None
    say(dataclasses.replace(found, gradients=4_000_000_000, optimizer=8_000_000_000, free=12_000_000_000))
    estimated, warning = capsys.readouterr().out.splitlines()
    assert estimated.endswith("nothing was tried; gradients 4.00 GB, optimizer 8.00, and 12.00 GB are free")
    assert warning.startswith(
        "warning: gradients and optimizer of 15 trained parameters alone leave no room for a batch"
    )


class Rows(list):
    """Sixteen rows of three numbers, said to be 1, 2, 3 or 4 long: four batches of four."""

    lengths = [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4

    def __init__(self):
        super().__init__({"input_ids": torch.arange(3), "labels": np.arange(3)} for _ in self.lengths)


@pytest.mark.parametrize(
    ("tries", "mean", "left_out"),
    [
        ([61.0], 61.0 * 10 / 12, ("a short, a long and the largest batch", "validation")),
        ([2.0, 66.0], 2.0, ("a short, a long and the wordiest batch", "validation")),
        ([3.0, 4.0, 1.0, 1.0, 3.0, 4.0, 70.0], 2.5, ("more than 8 validation instances",)),
    ],
    ids=["a usual batch", "the largest batch", "a ranking"],
)
def test_nothing_more_is_tried_once_one_try_has_taken_a_minute_and_that_is_said(
    monkeypatch, capsys, tries, mean, left_out
):
    trainer = known_trainer(Squares(), max_steps=5, eval_steps=2)
    trainer.accelerator = SimpleNamespace(distributed_type=DistributedType.NO)
    trainer.train_dataset, trainer._get_train_sampler = Rows(), lambda: range(16)
    trainer.data_collator = lambda rows: {"input_ids": torch.stack([row["input_ids"] for row in rows])}
    trainer.rank_validation = lambda instances: None
    seconds = iter([0.0, 0.0, *tries])  # the optimizer's two steps, then what is tried until one takes a minute
    monkeypatch.setattr(probes, "seconds_of", lambda device, work: work() or next(seconds))
    monkeypatch.setattr(module, "settle", lambda *_, **__: None)
    found = module.estimate(trainer, num_instances=20)
    assert next(seconds, None) is None, "all of these and no other were tried"
    assert found.not_tried == left_out and found.step_seconds == pytest.approx(mean)
    assert found.validation_seconds == (None if "validation" in left_out else 70.0 * 20 / 8)
    say(found)
    assert f"; not tried, for one try took more than a minute: {', '.join(left_out)}" in capsys.readouterr().out


def test_early_stopping_is_compared_with_the_steps_there_were():
    assert KNOWN.seconds == 240.0 and KNOWN.seconds_of(50, 2) == 120.0


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit_with_and_without_an_estimate(few_users, tiny_model, tmp_path, monkeypatch):
    def run(name: str) -> dict:
        more = ("lora.dropout=0.2", "items.dropout=0.2", "training.max_steps=6")
        run_here(settings(few_users, tiny_model, tmp_path / name, *more))
        folder = tmp_path / name / "model"
        return {
            **load_file(folder / "item_table.safetensors"),
            **load_file(folder / "adapter" / "adapter_model.safetensors"),
        }

    estimated = run("with")
    written = json.loads((tmp_path / "with" / module.FILE).read_text())
    for key in ("num_steps", "num_validations"):
        assert written["estimate"][key] == written["measured"][key], key
    assert written["estimate"]["fits"] is True and written["measured"]["seconds"] > 0
    monkeypatch.setattr(trainer, "estimate", lambda *_, **__: None)
    plain = run("without")
    assert estimated.keys() == plain.keys()
    assert all(np.array_equal(estimated[name], plain[name]) for name in plain)


@pytest.mark.slow
def test_a_batch_that_cannot_fit_is_not_tried_and_the_training_is_warned_of(
    few_users, tiny_model, tmp_path, monkeypatch, capsys
):
    tried = []
    monkeypatch.setattr(module, "free_bytes", lambda device: 800_000)  # gradients and AdamW's state: 690,444
    before = probes._forward_backward
    monkeypatch.setattr(probes, "_forward_backward", lambda t, rows: tried.append(tuple(rows)) or before(t, rows))
    run_here(settings(few_users, tiny_model, tmp_path / "run", "training.max_steps=1", "training.evaluate_every=1"))
    said = capsys.readouterr().out
    assert "warning: this training needs" in said
    assert 1 <= len(set(tried)) <= 2, "a usual one and a short one"
    written = json.loads((tmp_path / "run" / module.FILE).read_text())["estimate"]
    assert written["largest_tried"] is False and written["fits"] is False


@pytest.mark.slow
def test_a_dry_run_prints_one_object_and_leaves_nothing(few_users, tiny_model, tmp_path):
    overrides = settings(few_users, tiny_model, tmp_path / "run", "validation.max_users=20")
    called = call_alone("train", "next_item", "--dry-run", "--json", *overrides)
    found = called.json
    assert found["num_steps"] == 12 and found["num_validations"] == 3 and found["seconds"] > 0
    assert found["trained_parameters"] == 57_537 and found["gradients"] == 4 * 57_537
    assert "estimate: " in called.err and not (tmp_path / "run").exists()


SMALL_REAL = ("backbone.name=SmolLM2-135M-Instruct", "backbone.num_layers=2", "training.batch_size=16")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("backbone.scratch={hidden_size: 128, num_layers: 4, num_heads: 4, dropout: 0.1}", "training.batch_size=16"),
        SMALL_REAL,
        (
            *SMALL_REAL, "items.form=text", "prompt.targets=last_item", "prompt.name=next_item/instruction",
            "validation.num_beams=5", "validation.max_users=8", "training.max_steps=4",
        ),
        (*SMALL_REAL, "items.form=soft", "soft.features=[collaborative]", "soft.collaborative_dim=16"),
    ],
    ids=["four small layers", "packed rows, level rule", "titles, softmax over the vocabulary", "soft tokens"],
)  # fmt: skip
def test_the_peak_is_within_a_quarter_of_what_is_then_measured(few_users, tiny_model, tmp_path, more):
    overrides = settings(few_users, tiny_model, tmp_path / "run", "training.max_steps=8", *more)
    output, _ = (process := launch(overrides)).communicate(timeout=300)
    assert process.returncode == 0, output
    written = json.loads((tmp_path / "run" / module.FILE).read_text())
    found, expected = written["measured"]["peak"], written["estimate"]["peak"]
    assert abs(expected - found) <= 0.25 * found, (expected, found)
    # what the training adds to the program; the program is most of a small one
    before = written["estimate"]["used_before"]
    assert abs(expected - found) <= 0.5 * (found - before), (expected, found, before)
