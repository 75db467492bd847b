"""What a checkpoint may hold, and when a training ends: an interrupted one at the step of an unbroken one."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from llmrec.backbones import frozen_linear
from llmrec.backbones.adapters import add_lora
from llmrec.errors import ArtifactError
from llmrec.prompting.collators import Collator
from llmrec.prompting.generated_text_examples import GeneratedTextExamples
from llmrec.training import trainer as module
from llmrec.training.checkpoints import COMPLETE, LOG, LOSSES, LogLines, last_complete_checkpoint, read_log, step_of
from llmrec.training.cost import FILE
from llmrec.training.objectives import Objective
from llmrec.training.ranking_trainer import RankingTrainer
from llmrec.training.settings import TrainingSettings
from llmrec.training.trainer import train, training_arguments
from tests.tiny import tiny_backbone

FOUND = {
    2: 0.1,
    4: 0.3,
    6: 0.2,
    8: 0.29,
    10: 0.25,
    12: 0.9,
}  # step -> validation: best at 4, the third without a better one at 10


class At(TrainerCallback):
    """Knows the step, and interrupts the training after one."""

    def __init__(self, interrupted: int | None):
        self.step, self.interrupted = 0, interrupted

    def on_step_end(self, args, state, control, **_):
        self.step = state.global_step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.interrupted:
            raise KeyboardInterrupt


def run(
    folder: Path,
    *,
    interrupted: int | None = None,
    max_steps: int = 14,
    found: dict[int, float] = FOUND,
    log_every: int = 1,
    at: At | None = None,
) -> RankingTrainer:
    """A tiny model trained on ten rows, three batches an epoch, validated every second step with what `found` says."""
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.1)
    rows = GeneratedTextExamples(
        backbone.tokenizer, None, [f"film {n}" for n in range(10)], np.arange(10), max_text_tokens=9
    )
    at = at or At(interrupted)
    return train(
        Objective(backbone, lambda backbone, batch: backbone.next_token_loss(batch, scope="vocabulary")),
        rows, Collator(0), lambda *_: {"ndcg@10": found.get(at.step, 0.0)},
        TrainingSettings(
            batch_size=4, max_steps=max_steps, evaluate_every=2, patience=3, log_every=log_every, adapter_lr=0.01, weight_decay=0
        ), folder,
        seed=0, callbacks=[at],
    )  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[Path, RankingTrainer]:
    """A training that its patience ends after step 10."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(folder)


def assert_same_end(folder: Path, trainer: RankingTrainer, unbroken: tuple[Path, RankingTrainer]) -> None:
    of, expected = unbroken
    assert (trainer.state.global_step, trainer.state.best_global_step) == (expected.state.global_step, 4) == (10, 4)
    assert Path(trainer.state.best_model_checkpoint) == folder / "checkpoints" / "checkpoint-4"
    weights, whole = trainer.model.state_dict(), expected.model.state_dict()
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    losses, whole_losses = ([r["loss"] for r in read_log(each / LOG) if "loss" in r] for each in (folder, of))
    assert losses == whole_losses and len(losses) == 10
    ends = [[r["train_loss"] for r in read_log(each / LOG) if "train_loss" in r] for each in (folder, of)]
    assert ends[0][-1] == ends[1][-1] == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("interrupted", [3, 5, 7, 9])
def test_a_training_that_goes_on_stops_at_the_step_at_which_it_would_have_stopped(unbroken, tmp_path, interrupted):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted=interrupted)
    assert_same_end(tmp_path, run(tmp_path), unbroken)


def test_losses_are_means_over_all_steps_between_two_log_lines_even_where_a_kill_lay_between(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole, log_every=3, max_steps=6)
    with pytest.raises(KeyboardInterrupt):
        run(killed, log_every=3, max_steps=6, interrupted=5)  # goes on from step 4, the last line is of step 3
    run(killed, log_every=3, max_steps=6)
    logs = [
        [r.get("loss", r.get("train_loss")) for r in read_log(each / LOG) if "eval_ndcg@10" not in r]
        for each in (whole, killed)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 3


def test_the_process_time_of_a_resumed_training_is_that_of_all_its_parts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted=5)  # goes on from step 4
    losses = tmp_path / "checkpoints" / "checkpoint-4" / LOSSES
    # as long a file, for a checkpoint knows the sizes of its own: 0.1234 seconds become 99.234
    losses.write_text(re.sub(r'(?<="cpu_seconds": )\d\.\d', "99.", losses.read_text()))
    before = json.loads(losses.read_text())["cpu_seconds"]
    run(tmp_path)
    assert before >= 99 and 0 < json.loads((tmp_path / FILE).read_text())["measured"]["cpu_seconds"] - before < 600


def test_the_screen_shows_a_line_a_log_step_and_no_bar_where_nobody_looks(tmp_path, capsys):
    run(tmp_path, log_every=2, max_steps=6)
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if line.startswith("step ")]
    assert re.fullmatch(r"step 2 of 6: loss \d\.\d{4}, learning rate [\d.e-]+, [\d.e-]+ s left", lines[0])
    assert lines[1] == "step 2 of 6: validation ndcg@10 0.1000"
    assert lines[3] == "step 4 of 6: validation ndcg@10 0.3000 (the best so far)"
    assert len(lines) == 6 and "left" not in lines[4] and "{" not in said.out
    assert "it/s" not in said.err and "%" not in said.err


@pytest.mark.parametrize("is_packed", [(True, False), (False, True)])
def test_frozen_weights_packed_or_not_make_one_training_and_read_each_others_checkpoints(
    unbroken, tmp_path, monkeypatch, is_packed
):
    monkeypatch.setattr(frozen_linear, "blas_is_narrow", lambda: is_packed[0])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted=5)
    monkeypatch.setattr(frozen_linear, "blas_is_narrow", lambda: is_packed[1])
    trainer = run(tmp_path)
    assert (trainer.state.global_step, trainer.state.best_global_step) == (10, 4)
    losses, expected = ([r["loss"] for r in read_log(each / LOG) if "loss" in r] for each in (tmp_path, unbroken[0]))
    assert losses == pytest.approx(expected, rel=1e-3)
    names = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert names == {name for name, parameter in unbroken[1].model.named_parameters() if parameter.requires_grad}


def test_a_training_whose_patience_had_ended_takes_no_further_step(unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)  # as if it had been killed before the model was written
    estimated = (tmp_path / FILE).read_bytes()
    again = run(tmp_path)
    assert_same_end(tmp_path, again, unbroken)
    assert again.estimate is None and (tmp_path / FILE).read_bytes() == estimated, (
        "nothing is tried, what was found is kept"
    )


def test_a_training_whose_best_checkpoint_is_gone_does_not_end_with_another(unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-4")
    with pytest.raises(ArtifactError, match=r"best at step 4, but '.*checkpoint-4' is gone or incomplete; put it back"):
        run(tmp_path)


class Watching:
    """While it stands, calls `look` before every file operation of Python's in a folder: what is there then is what a process killed
    at that moment leaves behind."""

    def __init__(self, folder: Path, look):
        self.folder, self.look, self.is_on = str(folder), look, False
        sys.addaudithook(self._hear)  # it stays to the end of the process

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.is_on and any(isinstance(part, str | Path) and self.folder in str(part) for part in arguments):
            self.is_on = False  # looking is no operation of the training's
            self.look()
            self.is_on = True

    def __enter__(self):
        self.is_on = True

    def __exit__(self, *_):
        self.is_on = False


@pytest.mark.parametrize("best", [{2: 0.1}, {2: 0.1, 4: 0.2, 6: 0.3, 8: 0.2, 10: 0.4}, {2: 0.1, 8: 0.2}])
def test_at_every_moment_of_saving_the_last_checkpoint_but_one_or_a_later_one_is_whole_and_so_is_the_best(
    tmp_path, best
):
    at, looked_at = At(None), []

    def look() -> None:
        last = last_complete_checkpoint(tmp_path / "checkpoints")
        if at.step >= 4:
            saved = TrainerState.load_from_json(str(last / "trainer_state.json"))
            assert step_of(last) >= at.step - 2
            assert (tmp_path / "checkpoints" / f"checkpoint-{saved.best_global_step}" / COMPLETE).exists()
            looked_at.append(sorted(path.name for path in (tmp_path / "checkpoints").iterdir()))

    with Watching(tmp_path, look):
        run(tmp_path, found=best, max_steps=12, at=at)
    assert len(looked_at) > 50 and max(map(len, looked_at)) == 3, "two, and the one being written"


def test_what_was_half_written_is_not_taken_for_whole_while_it_is_written_again(unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "checkpoints" / "checkpoint-10"
    (broken / "optimizer.pt").write_bytes(b"cut short")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted=5)  # from step 4 on
    assert not broken.exists()
    assert_same_end(tmp_path, run(tmp_path), unbroken)


def test_one_process_uses_one_card_of_several(tmp_path, monkeypatch):
    class SeesTwoCards(TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    monkeypatch.setattr(module, "TrainingArguments", SeesTwoCards)
    arguments = training_arguments(TrainingSettings(batch_size=8), tmp_path, num_rows=1, seed=0)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)


def test_a_training_that_had_made_all_its_steps_takes_no_further_one(tmp_path):
    first = run(tmp_path, max_steps=5)
    estimated = (tmp_path / FILE).read_bytes()
    again = run(tmp_path, max_steps=5)
    assert again.estimate is None and (tmp_path / FILE).read_bytes() == estimated
    assert first.state.global_step == again.state.global_step == 5
    weights, whole = again.model.state_dict(), first.model.state_dict()
    assert all(torch.equal(weights[name], whole[name]) for name in whole)


def test_a_checkpoint_holds_the_trained_parameters_and_refuses_foreign_ones():
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    objective = Objective(backbone, lambda backbone, batch: (torch.zeros(()), 1))
    state = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    assert state and all("lora_" in name for name in state)
    objective.load_state_dict({name: tensor + 1 for name, tensor in state.items()})
    assert all(torch.equal(objective.state_dict()[name], tensor + 1) for name, tensor in state.items())
    with pytest.raises(ArtifactError, match="train different parts"):
        objective.load_state_dict({"backbone.other": torch.zeros(1)})


def test_a_log_with_half_a_last_line_is_read_up_to_there(tmp_path):
    log = tmp_path / "training_log.jsonl"
    log.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert read_log(log) == [{"step": 1, "loss": 2.5}]


def test_a_number_that_is_none_stands_in_the_log_as_null(tmp_path):
    log, state = LogLines(tmp_path / LOG), TrainerState(global_step=2)
    log.on_log(None, state, None, {"loss": 2.5, "grad_norm": float("nan"), "eval_auc": np.float64("inf")})
    before = log.path.read_text()
    assert before == '{"step": 2, "loss": 2.5, "grad_norm": null, "eval_auc": null}\n'
    log.on_train_begin(None, state, None)
    assert log.path.read_text() == before, "a resumed run keeps it"
    read = read_log(log.path)[0]
    assert (read["step"], read["loss"]) == (2, 2.5) and np.isnan([read["grad_norm"], read["eval_auc"]]).all()


def test_no_checkpoints_means_starting_at_the_beginning(tmp_path):
    assert last_complete_checkpoint(tmp_path / "checkpoints") is None


def test_what_a_killed_process_was_writing_into_a_checkpoint_is_gone_once_the_training_is_started_again(tmp_path):
    run(tmp_path, max_steps=4)
    left = tmp_path / "checkpoints" / "checkpoint-4" / f".{COMPLETE}.7-0123abcd.tmp"
    left.mkdir()
    run(tmp_path, max_steps=4)
    assert not left.exists() and (left.parent / COMPLETE).exists()
