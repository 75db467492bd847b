import re

import pytest

from llmrec.artifacts.run_folder import load_artifact
from llmrec.evaluation.tasks import load_any_task, load_task
from llmrec.prompting.templates import load_prompt
from llmrec.resources import resource_path
from tests.apps.calling import assert_one_sentence, call


def test_what_is_shipped_is_listed(capsys):
    recipes = call(capsys, "recipes", "--json").json["recipes"]
    assert {"next_item"} <= {row["name"] for row in recipes} and all(row["description"] for row in recipes)
    assert "demo" in next(row["configs"] for row in recipes if row["name"] == "next_item")
    assert {row["name"] for row in call(capsys, "prompts", "--json").json["prompts"]} >= {"next_item/bare"}
    assert {(task["name"], task["kind"]) for task in call(capsys, "tasks", "--json").json["tasks"]} >= {
        ("leave_one_out", "ranking"), ("sampled_candidates", "candidates"), ("clicks", "clicks"),
    }  # fmt: skip
    for listing, word in (("recipes", "next_item"), ("prompts", "next_item/chat"), ("tasks", "leave_one_out")):
        assert word in call(capsys, listing).out


@pytest.mark.parametrize(("name", "needs"), [("recbench/clicks", "for 20,000 rows"), ("temporal", "data with times"),
                                             ("collm_ml1m", "the split 'collm_ml1m'"), ("sampled_candidates", "any data")])  # fmt: skip
def test_a_task_is_shown_with_all_its_settings_what_it_needs_and_how_it_is_asked(capsys, tmp_path, name, needs):
    shown, _, after = call(capsys, "tasks", name).out.partition("\nNeeds ")
    (tmp_path / "shown.yaml").write_text(shown)
    assert load_any_task(tmp_path / "shown.yaml") == load_any_task(name)
    assert shown.startswith("# ") and "interval:" in shown and needs in after and f"--task {name}" in after
    (told,) = call(capsys, "tasks", name, "--json").json["tasks"]
    assert told["name"] == name and needs in told["needs"]


def test_copies_are_whole_and_can_be_used(capsys, tmp_path):
    assert call(capsys, "recipes", "--copy", "next_item", tmp_path / "r").status == 0
    shipped = resource_path("recipes")
    for file in ("next_item.py", "configs/next_item/demo.yaml"):
        assert (tmp_path / "r" / file).read_text() == (shipped / file).read_text()
    call(capsys, "prompts", "--copy", "next_item/chat", tmp_path / "p")
    assert load_prompt(tmp_path / "p" / "next_item" / "chat.yaml").hash == load_prompt("next_item/chat").hash
    call(capsys, "tasks", "--copy", "leave_one_out", tmp_path / "t")
    assert load_task(tmp_path / "t" / "leave_one_out.yaml") == load_task("leave_one_out")


def test_nothing_is_overwritten(capsys, tmp_path):
    call(capsys, "tasks", "--copy", "leave_one_out", tmp_path)
    (tmp_path / "leave_one_out.yaml").write_text("mine")
    assert_one_sentence(call(capsys, "tasks", "--copy", "leave_one_out", tmp_path), "left as it is")
    assert (tmp_path / "leave_one_out.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("listing", "name", "nearest"),
    [
        ("recipes", "next_itm", "next_item"),
        ("prompts", "next_item/char", "next_item/chat"),
        ("tasks", "leave1out", "leave_one_out"),
    ],
)
def test_an_unknown_name_is_one_sentence_with_the_nearest(capsys, tmp_path, listing, name, nearest):
    assert_one_sentence(call(capsys, listing, "--copy", name, tmp_path), f"Did you mean '{nearest}'?")


def test_a_folder_that_cannot_be_written_is_one_sentence(capsys):
    assert_one_sentence(call(capsys, "tasks", "--copy", "leave_one_out", "/dev/null"), "cannot write")


def test_columns_stand_apart_and_sentences_are_whole(capsys):
    lines = call(capsys, "prompts").out.splitlines()
    rows = call(capsys, "prompts", "--json").json["prompts"]
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        assert re.split(r"  +", line.strip()) == [row["name"], row["kind"], row["description"]]
    for row in call(capsys, "recipes", "--json").json["recipes"]:
        assert row["description"].endswith(".") and ":." not in row["description"]


def test_a_rendered_prompt_shows_what_the_model_reads(capsys, tiny_code_run, tiny_run):
    for run in (tiny_code_run, tiny_run):
        model = load_artifact(run)
        found = call(capsys, "prompts", "--render", run, "--history", "50", "--history", "181", "--json").json
        items = model.catalog.index(["50", "181"])
        assert found["token_ids"] == model.encoder.encode(items).tolist() and found["num_tokens"] == len(
            found["token_ids"]
        )
        first = model.item_tokens.base_vocab_size
        for item in items:
            row = model.item_tokens.sequences[item]
            assert "".join(model.item_tokens.row_strings[token - first] for token in row) in found["text"]
    out = call(capsys, "prompts", "--render", tiny_code_run, "--history", "50").out
    assert "tokens; the answer begins after them)" in out


def test_what_cannot_be_rendered_is_one_sentence(capsys, tiny_run):
    assert_one_sentence(call(capsys, "prompts", "--render", tiny_run, "--history", "x"), "no item id 'x'")
    assert_one_sentence(call(capsys, "prompts", "--history", "50"), "belong to --render RUN")
