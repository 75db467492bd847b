"""Recipe settings: one pydantic model holds every default, YAML holds what differs, `key=value` overrides both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from rapidfuzz import fuzz, process

from llmrec.errors import ConfigError
from llmrec.files import write_text
from llmrec.setting_types import is_text, known_keys, setting_path
from llmrec.yaml_text import parse_yaml, read_yaml, yaml_kind


class Settings(BaseModel):
    """A block of settings; a key it does not know is an error, and so is NaN, infinity, or a whole number of more than 32 bits."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _blocks_given_in_part(cls, given: Any) -> Any:
        """A block of which some settings are given keeps this model's defaults for the others, not those of the block's own class."""
        if not isinstance(given, dict):
            return given
        defaults = {
            name: field.default for name, field in cls.model_fields.items() if type(field.default) is field.annotation
        }
        return given | _with_defaults(given, defaults)

    @field_validator("*")
    @classmethod
    def _has_32_bits(cls, value: Any) -> Any:
        """Counts beyond that end in overflows deep inside libraries."""
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int) and abs(number) >= 2**32:
                raise ValueError(f"whole numbers lie below {2**32}")
        return value


def _with_defaults(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The blocks in `given` that have a default, each with what that default sets and they do not."""
    found = {}
    for name, default in defaults.items():
        block = given.get(name)
        if isinstance(default, Settings) and isinstance(block, dict):
            own = {each: getattr(default, each) for each in default.model_fields_set}
            found[name] = own | block | _with_defaults(block, own)
    return found


SettingsT = TypeVar("SettingsT", bound=Settings)
CONFIG = "config.yaml"  # in a run folder: the settings it was trained with
MAX_SEED = 2**32 - 1  # numpy takes no larger one
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


# Names that settings had before, by how they end, and what they are called now.
RENAMED = {
    "row_lr": "embedding_lr",
    "row_decay": "embedding_decay",
    "prompt.rows": "prompt.targets",
    "items.mention": "items.prompt_form",
    "loss.rule": "loss.softmax_scope",
    "next_item.rule": "loss.softmax_scope",
    "next_item.softmax_scope": "loss.softmax_scope",
    "next_item.task": "validation.task",
    "next_item.max_users": "validation.max_users",
    "next_item.num_beams": "validation.num_beams",
    "items.answer": "items.form",
    "pictures": "images",
    "knowledge": "generated_texts",
    "watch": "monitor",
    "max_train_rows": "max_train_examples",
    "max_valid_rows": "max_valid_examples",
    "max_test_rows": "max_test_examples",
}


def check_seed(seed: int) -> None:
    """Raises ConfigError for a seed that settings would not take either."""
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"a seed is a number from 0 to {MAX_SEED}, but it is {seed}.")


def load_config(model: type[SettingsT], path: str | Path | None, overrides: Sequence[str] = ()) -> SettingsT:
    """The settings of `path` (YAML) with `overrides` such as "lora.rank=16" on top, checked against `model`.

    An override's value is YAML, but where the setting is a text: that stays as it was typed. Quotes around the whole of it are taken
    off, "null" and nothing at all are null.

    Raises:
        ConfigError: the file is missing or no mapping, a key is unknown (the nearest known one is named), or a value does not fit; it
            names the file or the override.
    """
    values = _read_settings(Path(path)) if path is not None else {}
    given: dict[tuple[str, ...], str] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected an override like lora.rank=16, got {_shown(override)}.")
        keys = key.split(".")
        _set(values, keys, _parse(model, keys, value, override))
        given[tuple(keys)] = override
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_in_words(model, error, path, given)) from error


def save_config(config: Settings, path: str | Path) -> None:
    """Writes the resolved settings as YAML, defaults included."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ConfigError(
            f"expected a YAML file at '{path}', but there is none. `llmrec recipes` lists the configs shipped."
        )
    values = read_yaml(path, f"the settings in '{path}'")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"expected a mapping of settings in '{path}', got a {type(values).__name__}.")
    return values


def _parse(model: type[Settings], keys: list[str], value: str, override: str) -> Any:
    what = f"the value of the argument {_shown(override)}"
    if not is_text(model, keys):
        return parse_yaml(value, what)
    if value in ("", "~", "null"):
        return None
    if value[0] in "'\"" and value[-1] == value[0]:
        try:
            unquoted = parse_yaml(value, what)
        except ConfigError:  # words that begin and end with quotes of their own
            return value
        return unquoted if isinstance(unquoted, str) else value
    return value


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if values.get(key) is None:  # a block may be null until something in it is set
            values[key] = {}
        nested = values[key]
        if not isinstance(nested, dict):
            raise ConfigError(
                f"{_shown('.'.join(keys))} cannot be set: {_shown(key)} is a value, not a block of settings."
            )
        values = nested
    values[keys[-1]] = value


def _in_words(
    model: type[Settings], error: ValidationError, path: str | Path | None, given: dict[tuple[str, ...], str]
) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    location = setting_path(model, first["loc"])
    key = ".".join(location)[:200]
    override = _override_of(location, given)
    where = f"the argument {_shown(override)}" if override else f"'{path}'" if path else "the command line"
    if first["type"] in ("extra_forbidden", "invalid_key"):
        if new_name := _renamed(key):
            return f"the setting '{key}' in {where} is called '{new_name}' now; docs/settings.md lists all."
        nearest = process.extractOne(key, known_keys(model), scorer=fuzz.ratio)
        guess = f" Did you mean '{nearest[0]}'?" if nearest else ""
        return f"unknown setting '{key}' in {where}.{guess}"
    if first["type"] == "missing":
        return f"the setting '{key}' has no default and is missing in {where}; give it there or as {key}=VALUE."
    message, value = first["msg"].removeprefix("Value error, "), first.get("input")
    if first["type"] == "string_type":
        message = f"it should be words, but YAML reads {yaml_kind(value)} there; put it in quotes"
    named = f"the setting '{key}' in {where}" if key else f"the settings in {where}"
    return f"{named} does not fit: {message} (it is {_shown(value)})."


def _renamed(key: str) -> str | None:
    """The name of today of a setting that was renamed; None where `key` never was one."""
    for old, new in RENAMED.items():
        if key == old or key.endswith(f".{old}"):
            return key.removesuffix(old) + new
    return None


def _override_of(location: list[str], given: dict[tuple[str, ...], str]) -> str | None:
    """The last override that set what is wrong, a block around it, or something in it."""
    for keys, override in reversed(given.items()):
        shorter = min(len(keys), len(location))
        if shorter and list(keys[:shorter]) == location[:shorter]:
            return override
    return None


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
