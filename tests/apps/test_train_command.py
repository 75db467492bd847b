"""`llmrec train`: the line it prints is the line that works, and mistakes end as they do everywhere."""

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from llmrec.apps import train_command
from llmrec.processes import PARENT
from tests.apps.calling import Called, assert_one_sentence, call, call_alone, command
from tests.recipes.running import settings


def last_line(called: Called) -> Called:
    """The same without the launch line that is printed first."""
    assert "accelerate launch" in called.err.splitlines()[0]
    return Called(called.status, called.out, called.err.partition("\n")[2])


@pytest.fixture
def launched(monkeypatch) -> list[list[str]]:
    """What would be launched."""
    lines = []
    monkeypatch.setattr(train_command, "_launch", lambda arguments: lines.append(arguments) or 0)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")  # put back afterwards
    monkeypatch.setenv(PARENT, "")
    return lines


def test_the_line_printed_is_the_line_launched(launched, capsys):
    for more in ([], ["--processes", "2"], ["--fresh"]):
        called = call(
            capsys, "train", "next_item", "--config", "demo", *more, "data=my data", "output=o", "lora.rank=8"
        )
        words = shlex.split(called.err.strip())
        words = words[words.index("accelerate") :]
        assert called.status == 0 and words == ["accelerate", "launch", *launched[-1]]
        assert words[words.index("--num_processes") + 1] == ("2" if "--processes" in more else "1")
        assert ("--fresh" in words) is ("--fresh" in more)
        assert words[-3:] == ["data=my data", "output=o", "lora.rank=8"]
        assert words[words.index("--config") + 1].endswith("configs/next_item/demo.yaml")


def test_a_config_of_ones_own_is_taken_as_it_is(launched, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("{}")
    call(capsys, "train", "next_item", "--config", tmp_path / "mine.yaml")
    assert str(tmp_path / "mine.yaml") in launched[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["next_itm"], "Did you mean 'next_item'?"),
        (["next_item", "--config", "dmeo"], "Did you mean 'demo'?"),
    ],
)
def test_an_unknown_recipe_or_config_is_one_sentence(launched, capsys, arguments, sentence):
    assert_one_sentence(call(capsys, "train", *arguments), sentence)
    assert not launched


@pytest.mark.slow
def test_a_run_is_trained_and_then_left_as_it_is(few_users, tiny_model, tmp_path):
    overrides = settings(few_users, tiny_model, tmp_path / "run", "training.max_steps=2", "training.evaluate_every=2")
    called = call_alone("train", "next_item", *overrides)
    assert called.status == 0, called.err
    assert "trained part" in called.out and "the model is in" in called.out
    manifest = json.loads((tmp_path / "run" / "model" / "manifest.json").read_text())
    assert manifest["protocol"]["steps"] == 2
    again = call_alone("train", "next_item", *overrides)
    assert again.status == 0 and "finished and left as it is" in again.out


@pytest.mark.slow
def test_one_training_a_folder_which_ends_with_its_command_and_goes_on_with_the_next(few_users, tiny_model, tmp_path):
    run = tmp_path / "run"
    overrides = [*settings(few_users, tiny_model, run), "training.max_steps=5000", "training.evaluate_every=2",
                 "training.patience=5000"]  # fmt: skip
    first = subprocess.Popen(
        command("train", "next_item", *overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: any(run.glob("checkpoints/*/complete.json")))
        trainers = children_of(first.pid)
        assert trainers
        second = last_line(call_alone("train", "next_item", *overrides))
        assert_one_sentence(second, f"another process is training in '{run}'; wait for it or stop it")
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: not any(is_running(pid) for pid in trainers))
    finally:
        first.kill()
        first.wait()
    again = subprocess.Popen(
        command("train", "next_item", *overrides), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        said = next(line for line in again.stdout if line.startswith(b"step "))
        assert int(said.split()[1]) > 2, "it goes on"
        trainers = children_of(again.pid)
        again.terminate()
        until(lambda: not any(is_running(pid) for pid in trainers))
    finally:
        again.kill()
        again.wait()


def until(holds, seconds: float = 240) -> None:
    """Waits for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Not, where it has ended and only nobody has asked how."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """Processes that it has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data=x", "output=y", "lora.rnak=8"], "Did you mean 'lora.rank'?"),
        (["data=x", "output=/dev/null/run"], "cannot write"),
    ],
)
def test_a_mistake_inside_the_recipe_is_one_sentence_too(arguments, sentence):
    assert_one_sentence(last_line(call_alone("train", "next_item", *arguments)), sentence)


@pytest.mark.slow
def test_a_mistake_in_several_processes_has_the_same_status(tmp_path):
    called = call_alone("train", "next_item", "--processes", "2", "data=/nowhere", f"output={tmp_path / 'run'}")
    assert called.status == 2 and "Traceback" not in called.err
    said = {line for line in called.err.splitlines() if line.startswith("llmrec: ")}
    assert len(said) == 1 and "not a prepared data folder" in said.pop()


def test_a_launch_configuration_goes_to_accelerate_by_its_file(launched, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert call(capsys, "train", "next_item", "--launch", "fsdp2", "data=d", "output=o").status == 0
    words = launched[-1]
    assert words[words.index("--config_file") + 1].endswith("configs/accelerate/fsdp2.yaml")
    assert words[words.index("--num_processes") + 1] == "4", "one process a card"
    call(capsys, "train", "next_item", "--launch", "multi_gpu", "--processes", "2", "data=d", "output=o")
    assert launched[-1][launched[-1].index("--num_processes") + 1] == "2"


def test_a_configuration_of_ones_own_decides_everything_it_says(launched, capsys, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: MULTI_CPU\nnum_processes: 3\nuse_cpu: true\n")
    assert call(capsys, "train", "next_item", "--launch", own, "data=d", "output=o").status == 0
    assert str(own) in launched[-1] and "--num_processes" not in launched[-1]


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        ("fdsp2", "Did you mean 'fsdp2'?"),
        ("fsdp2", "needs CUDA devices and there are none here"),
        ("config.yaml", "unknown keys (['nonsense'])"),
    ],
)
def test_a_launch_configuration_that_cannot_work_here_is_one_sentence(
    launched, capsys, tmp_path, monkeypatch, launch, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("distributed_type: MULTI_GPU\nnonsense: 1\n")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_one_sentence(call(capsys, "train", "next_item", "--launch", launch, "data=d"), sentence)
    assert not launched


def test_deepspeed_is_asked_for_before_anything_starts(launched, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    called = call(capsys, "train", "next_item", "--launch", "deepspeed_zero2", "--processes", "2", "data=d")
    assert_one_sentence(called, "run `pip install deepspeed`")
