"""All settings of recipes, commands, tasks and baselines, from their pydantic models and the comments next to the fields."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import sys
import textwrap
import tokenize
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmrec.apps.shipped_recipes import recipe_names
from llmrec.config import Settings
from llmrec.resources import resource_path

_BOUNDS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "min_length": "entries at least",
    "max_length": "entries at most",
}
PAGE = """# All settings

Made by `llmrec recipes --settings`; `llmrec recipes NAME --settings` shows one recipe's in the terminal. A recipe's setting
is written in a config (YAML, nested) or after the command (`training.epochs=3`). Configs in `recipes/configs` hold what differs
from these defaults.
"""


@dataclass(frozen=True)
class Setting:
    """One setting: its path with dots, what it may be, its default ("" where it must be given), and what it does."""

    key: str
    type: str
    default: str
    meaning: str


def recipe_settings(name: str) -> list[Setting]:
    """The settings of a recipe, in the order of its file."""
    return _settings(recipe_model(name))


def settings_page() -> str:
    """All settings as Markdown: the recipes', then those of commands, tasks and baselines."""
    parts = [PAGE]
    for name in recipe_names():
        parts += _section(f"recipe {name}", None, recipe_settings(name))
    for title, how, model in _other_models():
        parts += _section(title, how, _settings(model))
    return "\n".join(parts)


def _section(title: str, how: str | None, settings: list[Setting]) -> list[str]:
    parts = [
        f"## {title}\n",
        *([f"{how}\n"] if how else []),
        "| setting | type | default | meaning |\n|---|---|---|---|",
    ]
    for setting in settings:
        cells = (
            f"`{setting.key}`",
            setting.type,
            f"`{setting.default}`" if setting.default else "required",
            setting.meaning,
        )
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*parts, ""]


def _other_models() -> list[tuple[str, str, type[Settings]]]:
    """Title of a section, how its settings are written, and their model."""
    from llmrec.baselines.by_name import NAMES, baseline_type
    from llmrec.ctr.from_task import CTR_NAMES, CtrTaskSettings
    from llmrec.enrich.settings import EnrichSettings
    from llmrec.evaluation.tasks import CandidatesTask, ClicksTask, RankingTask
    from llmrec.serving.settings import ServingSettings

    task = (
        "In the YAML file of a task with this `kind` (`llmrec tasks --copy NAME DIR` gives one to change). Splits: `{policy: "
        "leave_one_out}`, `{policy: temporal, test_quantile: 0.9, valid_quantile: 0.8}` or `{policy: by_user, valid: 0.1, test: 0.1}`."
    )
    clicks = (
        "In a task's YAML file, too. Splits: `time` cuts all users at one moment, `last` takes each user's last events."
    )
    tasks = (("ranking", task, RankingTask), ("candidates", task, CandidatesTask), ("clicks", clicks, ClicksTask))
    baselines = [(name, baseline_type(name).Settings) for name in NAMES]
    return [
        ("llmrec serve", "After the run, as `batch.size=16`, or in a YAML file: `--config FILE`.", ServingSettings),
        (
            "llmrec enrich",
            "After `--set`, as `--set max_new_tokens=96`; some have options of their own.",
            EnrichSettings,
        ),
        *((f"task of the kind {kind}", how, model) for kind, how, model in tasks),
        *(
            (
                f"baseline {name}",
                f"`llmrec eval --baseline {name} --baseline-setting {next(iter(model.model_fields))}=...`",
                model,
            )
            for name, model in baselines
            if model.model_fields
        ),
        (
            f"CTR models {', '.join(CTR_NAMES)}",
            "Of a task of clicks: `llmrec eval --task NAME --baseline din --baseline-setting inputs=id,text`; `model` is the name.",
            CtrTaskSettings,
        ),
    ]


@cache
def recipe_model(name: str) -> type[Settings]:
    """The settings' model of a shipped recipe."""
    spec = importlib.util.spec_from_file_location(f"recipes_{name}", resource_path("recipes") / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic and inspect look it up
    spec.loader.exec_module(module)
    own = [made for made in vars(module).values() if isinstance(made, type) and made.__module__ == module.__name__]
    (model,) = (made for made in own if issubclass(made, Settings) and {"data", "output"} <= made.model_fields.keys())
    return model


def _settings(model: type[Settings], prefix: str = "", default: Any = None) -> list[Setting]:
    rows, said = [], _comments(model)
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        given = getattr(default, name) if default is not None else field.get_default(call_default_factory=True)
        block = _block(field.annotation)
        if block is not None and given is not None and given is not PydanticUndefined:
            rows += _settings(block, f"{key}.", given)
            continue
        shown = "" if given is PydanticUndefined else _plain(given)
        rows.append(Setting(key, _type(field), shown, said.get(name, "")))
        if block is not None:  # off by default; its own settings once it is on
            rows += _settings(block, f"{key}.")
    return rows


def _block(annotation: Any) -> type[Settings] | None:
    """The nested settings' model of `Model` or `Model | None`."""
    found = [
        part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, Settings)
    ]
    return found[0] if len(found) == 1 and get_origin(annotation) in (None, Union, types.UnionType) else None


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{words} {getattr(limit, name)}"
        for limit in field.metadata
        for name, words in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([_type_name(field.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in parts)
    if origin is dict:
        return f"{_type_name(parts[0])}: {_type_name(parts[1])}"
    if origin in (list, tuple):
        return f"list of {_type_name(parts[0])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", type(None): "null"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plain(value: Any) -> str:
    """A default as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Settings):
        return _plain({name: getattr(value, name) for name in type(value).model_fields})
    return str(value) if value != "" else '""'


@cache
def _comments(model: type[Settings]) -> dict[str, str]:
    """What the comments after a model's fields, or on the lines before them, say; of inherited fields too."""
    said: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (issubclass(owner, Settings) and owner is not Settings):
            continue
        source = textwrap.dedent(inspect.getsource(owner))
        comments = {
            token.start[0]: token.string.lstrip("# ").strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and not token.string.startswith("# fmt")
        }
        lines = source.splitlines()
        for statement in ast.parse(source).body[0].body:
            if not isinstance(statement, ast.AnnAssign):
                continue
            before, line = [], statement.lineno - 1
            while line in comments and lines[line - 1].lstrip().startswith("#"):
                before.insert(0, comments[line])
                line -= 1
            within = [comments[line] for line in range(statement.lineno, statement.end_lineno + 1) if line in comments]
            inherited = said.get(statement.target.id, "")  # where a default alone is another one
            said[statement.target.id] = " ".join(before + within) or inherited
    return said
