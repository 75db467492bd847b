"""Every config that is shipped: its recipe takes it, and it holds only what differs from the recipe's defaults."""

from pathlib import Path

import pytest

from llmrec.apps.settings_reference import recipe_model
from llmrec.config import Settings, load_config
from llmrec.errors import ConfigError
from llmrec.resources import resource_path
from llmrec.yaml_text import read_yaml

CONFIGS = sorted(
    path for path in (resource_path("recipes") / "configs").glob("*/*.yaml") if path.parent.name != "accelerate"
)
REQUIRED = {"data": "data", "output": "run", "stage": "adapter"}  # what no recipe has a default for


def defaults_repeated(given: dict, defaults: dict, prefix: str = "") -> list[str]:
    """The settings that a config names and that would be the same without it."""
    found = []
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict) and defaults[name]:
            found += defaults_repeated(value, defaults[name], f"{prefix}{name}.")
        elif value == defaults.get(name, ...):
            found.append(prefix + name)
    return found


def required(model: type[Settings]) -> list[str]:
    return [f"{name}={value}" for name, value in REQUIRED.items() if name in model.model_fields]


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}/{path.stem}" for path in CONFIGS])
def test_a_shipped_config_fits_its_recipe_and_says_only_what_differs_from_the_defaults(path: Path):
    model = recipe_model(path.parent.name)
    load_config(model, path, required(model))
    defaults = load_config(model, None, required(model)).model_dump(mode="json")
    assert defaults_repeated(read_yaml(path, "a config"), defaults) == []


def test_every_recipe_is_shipped_with_a_config():
    assert {path.parent.name for path in CONFIGS} == {path.stem for path in resource_path("recipes").glob("*.py")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("items.answer=soft", "items.form"),
        ("next_item.softmax_scope=level", "loss.softmax_scope"),
        ("next_item.task=leave_one_out", "validation.task"),
        ("next_item.max_users=4", "validation.max_users"),
        ("next_item.num_beams=4", "validation.num_beams"),
    ],
)
def test_a_setting_that_other_recipes_call_otherwise_is_an_error_that_names_the_common_name(old: str, new: str):
    model = recipe_model("soft_tokens")
    with pytest.raises(ConfigError, match=f"'{old.partition('=')[0]}' .* is called '{new}' now"):
        load_config(model, None, [*required(model), old])
