"""Options that belong together as one value: a dataclass whose fields are a command's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` for typer: a keyword-only parameter that is a dataclass stands as its fields, the options, and comes as one value."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _options(kind)
        else:
            parameters.append(parameter.replace(annotation=kind))

    @wraps(command)
    def as_given(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    as_given.__signature__ = inspect.Signature(parameters)  # what typer reads
    as_given.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return as_given


def _options(group: type) -> list[inspect.Parameter]:
    """The fields of a group as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]
        )
        for field in fields(group)
    ]


def _default(field: Field) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def given_options(group: Any) -> list[str]:
    """The options of a group that differ from their defaults, as they are typed."""
    return [
        "--" + field.name.replace("_", "-") for field in fields(group) if getattr(group, field.name) != field.default
    ]
