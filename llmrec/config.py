"""Recipe settings: one pydantic model holds every default, YAML holds what differs, `key=value` overrides both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from rapidfuzz import fuzz, process

from llmrec.errors import ConfigError
from llmrec.files import write_text


class Settings(BaseModel):
    """A block of settings; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_config(model: type[SettingsT], path: str | Path | None, overrides: Sequence[str] = ()) -> SettingsT:
    """The settings of `path` (YAML) with `overrides` such as "lora.rank=16" on top, checked against `model`.

    Raises:
        ConfigError: the file is missing or no mapping, a key is unknown (the nearest known one is named), or a value does not fit.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected an override like lora.rank=16, got {override!r}.")
        _set(values, key.split("."), _parse(value, override))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where = f"'{path}'" if path is not None else "the command line"
        raise ConfigError(_in_words(model, error, where)) from error


def save_config(config: Settings, path: str | Path) -> None:
    """Writes the resolved settings as YAML, defaults included."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"expected a YAML file at '{path}', but there is none. `llmrec recipes` lists the configs shipped."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"expected YAML in '{path}', but it cannot be read: {' '.join(str(error).split())}"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"expected a mapping of settings in '{path}', got a {type(values).__name__}.")
    return values


def _parse(value: str, override: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"expected a YAML value after '=', got {override!r}.") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        nested = values.setdefault(key, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"'{'.'.join(keys)}' cannot be set: '{key}' is a value, not a block of settings.")
        values = nested
    values[keys[-1]] = value


def _in_words(model: type[Settings], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _known_keys(model)
        nearest = process.extractOne(key, known, scorer=fuzz.ratio)
        guess = f" Did you mean '{nearest[0]}'?" if nearest else ""
        return f"unknown setting '{key}' in {where}.{guess}"
    if first["type"] == "missing":
        return f"the setting '{key}' has no default and is missing in {where}; give it there or as {key}=VALUE."
    return f"the setting '{key}' in {where} does not fit: {first['msg']} (it is {first.get('input')!r:.80})."


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys
