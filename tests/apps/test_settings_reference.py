"""The reference of settings is what the code says."""

from pathlib import Path

from tests.apps.calling import assert_one_sentence, call

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_current(capsys):
    """A change that is meant: llmrec recipes --settings > docs/settings.md, then read the difference."""
    assert call(capsys, "recipes", "--settings").out == PAGE.read_text(encoding="utf-8")


def test_a_recipes_settings_are_shown_with_type_default_and_meaning(capsys):
    rows = {
        row["key"]: row
        for row in call(capsys, "recipes", "next_item", "--settings", "--json").json["settings"]["next_item"]
    }
    assert rows["data"]["default"] == "" and rows["lora.rank"]["type"] == "whole number, at least 1"
    assert rows["prefix.num_tokens"]["default"] == "10" and "words" in rows["prefix.text"]["meaning"]
    assert rows["backbone.scratch"]["default"] == "null" and "backbone.scratch.num_heads" in rows
    out = call(capsys, "recipes", "next_item", "--settings").out
    assert all(key in out for key in rows)


def test_an_unknown_recipe_is_one_sentence(capsys):
    assert_one_sentence(call(capsys, "recipes", "next_itm", "--settings"), "Did you mean 'next_item'?")
