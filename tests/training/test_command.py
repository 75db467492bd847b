"""Starting again in a run folder: the same settings go on, others are refused."""

import shutil
from pathlib import Path
from typing import Literal

import pytest

from llmrec.config import Settings
from llmrec.errors import ConfigError, DataError
from llmrec.files import atomic_folder, unfinished
from llmrec.training.command import CONFIG, begin_run, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.inputs import INPUTS

INPUTS_OF_ALL = {"items and events": "0123"}


class Recipe(Settings):
    """Settings as a recipe has them."""

    output: str
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    rank: int = 8


def test_a_run_goes_on_with_what_auto_was_settled_to(tmp_path):
    asked = Recipe(output=str(tmp_path / "run"))
    assert settle_run_folder(asked, tmp_path / "run", fresh=False) == asked
    begin_run(
        asked.model_copy(update={"dtype": "bfloat16"}), tmp_path / "run", num_rows=1, inputs=INPUTS_OF_ALL, fresh=False
    )
    again = settle_run_folder(asked, tmp_path / "run", fresh=False)
    assert again is not None and again.dtype == "bfloat16"


def test_a_run_with_other_settings_is_refused_and_says_which(tmp_path):
    begin_run(
        Recipe(output=str(tmp_path / "run"), dtype="float32"),
        tmp_path / "run",
        num_rows=1,
        inputs=INPUTS_OF_ALL,
        fresh=False,
    )
    with pytest.raises(ConfigError, match=r"dtype was 'float32', is 'bfloat16'; rank was 8, is 4"):
        settle_run_folder(Recipe(output=str(tmp_path / "run"), dtype="bfloat16", rank=4), tmp_path / "run", fresh=False)


def run_of(folder: Path) -> dict[str, bytes]:
    """What lies in a run folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old_run(tmp_path):
    """A finished run of another rank, with a step of its own and a note of its owner."""
    folder = tmp_path / "run"
    begin_run(Recipe(output=str(folder), rank=4), folder, num_rows=1, inputs=INPUTS_OF_ALL, fresh=False)
    for name in (
        "model/manifest.json", "checkpoints/checkpoint-4/complete.json", "training_log.jsonl", "estimate.json",
        "words/trained.safetensors", "notes.txt",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_fresh_start_leaves_the_old_run_until_it_begins_and_then_nothing_of_it(old_run):
    before, asked = run_of(old_run), Recipe(output=str(old_run), rank=2)
    assert settle_run_folder(asked, old_run, fresh=True) == asked
    with pytest.raises(DataError, match="nothing to train on"):
        begin_run(asked, old_run, num_rows=0, inputs=INPUTS_OF_ALL, fresh=True, parts=("words", "soft"))
    assert run_of(old_run) == before
    begin_run(asked, old_run, num_rows=3, inputs=INPUTS_OF_ALL, fresh=True, parts=("words", "soft"))
    assert sorted(run_of(old_run)) == [CONFIG, INPUTS, "notes.txt"], "what no run wrote is somebody's own"
    assert settle_run_folder(asked, old_run, fresh=False) == asked


def test_a_run_that_goes_on_keeps_what_it_has(old_run):
    before = run_of(old_run)
    begin_run(
        Recipe(output=str(old_run), rank=4), old_run, num_rows=1, inputs=INPUTS_OF_ALL, fresh=False, parts=("words",)
    )
    assert run_of(old_run) == before


def test_a_run_does_not_go_on_over_what_was_prepared_again(old_run):
    asked, before = Recipe(output=str(old_run), rank=4), run_of(old_run)
    for inputs, num_rows, named in (
        ({"items and events": "4567"}, 1, "items and events"),
        (INPUTS_OF_ALL, 2, "number of training examples"),
        ({**INPUTS_OF_ALL, "images": "89"}, 1, "images"),
    ):
        with pytest.raises(ConfigError, match=rf"changed since \({named}\): .* --fresh"):
            begin_run(asked, old_run, num_rows=num_rows, inputs=inputs, fresh=False)
        assert run_of(old_run) == before
    (old_run / INPUTS).unlink()
    with pytest.raises(ConfigError, match=r"has no inputs.json, .* --fresh"):
        begin_run(asked, old_run, num_rows=1, inputs=INPUTS_OF_ALL, fresh=False)
    begin_run(asked, old_run, num_rows=2, inputs={"items and events": "4567"}, fresh=True)
    begin_run(asked, old_run, num_rows=2, inputs={"items and events": "4567"}, fresh=False)


def test_a_start_that_was_killed_before_its_settings_were_written_may_be_made_again(tmp_path):
    asked, folder = Recipe(output=str(tmp_path / "run")), tmp_path / "run"
    begin_run(asked, folder, num_rows=1, inputs={}, fresh=False)
    (folder / CONFIG).unlink()
    assert settle_run_folder(asked, folder, fresh=False) == asked
    begin_run(asked, folder, num_rows=2, inputs={}, fresh=False)


def test_what_a_killed_process_was_writing_is_removed_and_nobodys_way_is_barred_by_it(tmp_path):
    folder, asked = tmp_path / "run", Recipe(output=str(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder / "model") as half_written:
        (half_written / "backbone").write_text("half")
        shutil.copytree(half_written, killed := folder / ".model.7-0123abcd.tmp")
        raise KeyboardInterrupt
    assert unfinished(folder) == [killed], "a process that is not killed leaves nothing"
    assert settle_run_folder(asked, folder, fresh=False) == asked
    (folder / ".mine.tmp").write_text("a note of its owner")
    begin_run(asked, folder, num_rows=1, inputs=INPUTS_OF_ALL, fresh=False)
    assert sorted(run_of(folder)) == [".mine.tmp", CONFIG, INPUTS]


@pytest.mark.parametrize("how", ["FSDP", "DEEPSPEED"])
def test_what_reads_the_whole_model_again_is_not_trained_sharded(monkeypatch, how):
    refuse_sharded("recipes/some.py")
    monkeypatch.setenv(f"ACCELERATE_USE_{how}", "true")
    with pytest.raises(ConfigError, match=r"recipes/some.py needs the whole model .* --launch multi_gpu"):
        refuse_sharded("recipes/some.py")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files; choose another"):
        settle_run_folder(Recipe(output=str(tmp_path)), tmp_path, fresh=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_run_folder_is_left_alone(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError, match="is a file; choose another"):
        settle_run_folder(Recipe(output=str(tmp_path / "run")), tmp_path / "run", fresh=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_mistake_with_a_hostile_text_in_it_reaches_the_terminal_harmless(monkeypatch, capsys):
    def main(config: Recipe, *, fresh: bool) -> None:
        raise ConfigError("there is no item '\x1b[2JGone\u202e'.")

    monkeypatch.setattr("sys.argv", ["recipe", "output=run"])
    with pytest.raises(SystemExit) as end:
        recipe_main(Recipe, main, None)
    assert end.value.code == 2
    assert capsys.readouterr().err == "llmrec: there is no item '\\x1b[2JGone\\u202e'.\n"
