"""Starting again in a run folder: the same settings go on, others are refused."""

from typing import Literal

import pytest

from llmrec.config import Settings
from llmrec.errors import ConfigError
from llmrec.training.command import recipe_main, remember_settings, settle_run_folder


class Recipe(Settings):
    """Settings as a recipe has them."""

    output: str
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    rank: int = 8


def test_a_run_goes_on_with_what_auto_was_settled_to(tmp_path):
    asked = Recipe(output=str(tmp_path / "run"))
    assert settle_run_folder(asked, tmp_path / "run", fresh=False) == asked
    remember_settings(asked.model_copy(update={"dtype": "bfloat16"}), tmp_path / "run")
    again = settle_run_folder(asked, tmp_path / "run", fresh=False)
    assert again is not None and again.dtype == "bfloat16"


def test_a_run_with_other_settings_is_refused_and_says_which(tmp_path):
    settle_run_folder(Recipe(output=str(tmp_path / "run"), dtype="float32"), tmp_path / "run", fresh=False)
    with pytest.raises(ConfigError, match=r"dtype was 'float32', is 'bfloat16'; rank was 8, is 4"):
        settle_run_folder(Recipe(output=str(tmp_path / "run"), dtype="bfloat16", rank=4), tmp_path / "run", fresh=False)


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
    assert capsys.readouterr().err == "llmrec: there is no item 'Gone'.\n"
