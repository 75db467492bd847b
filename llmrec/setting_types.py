"""What a pydantic model says of its settings by their keys: which are texts, and which exist."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def is_text(model: type[BaseModel], keys: Sequence[str]) -> bool:
    """Whether the setting `keys` can be nothing but a text (or null): a str, a path, a literal of words."""
    members = [model]
    for key in keys:
        members = _below(members, key)
    words = [member for member in members if member is not type(None)]
    return bool(words) and all(_is_words(member) for member in words)


def known_keys(model: type[BaseModel]) -> list[str]:
    """Every setting and block of settings, such as "lora" and "lora.rank", each once."""
    keys: dict[str, None] = {}
    for name, field in model.model_fields.items():
        keys[name] = None
        for member in _members(field.annotation):
            if _is_block(member):
                keys |= dict.fromkeys(f"{name}.{key}" for key in known_keys(member))
    return list(keys)


def setting_path(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Where pydantic met an error, as a user would write it: without the names of a union's members."""
    path, members = [], [model]
    for part in location:
        blocks = [member for member in members if _is_block(member)]
        if blocks and len(members) > 1 and not any(part in member.model_fields for member in blocks):
            inner = [member for member in blocks if part in (member.__name__, *_tags(member))]
            if inner:  # pydantic names the member of the union it has settled for
                members = inner
                continue
        below = _below(members, part)
        if not below and not blocks and path:  # "list[str]" and the like
            continue
        path.append(str(part))
        members = below
    return path


def _below(members: Sequence[Any], key: int | str) -> list[Any]:
    """What the value under `key` may be, where the value above may be any of `members`."""
    found: list[Any] = []
    for member in members:
        if _is_block(member):
            if key in member.model_fields:
                found += _members(member.model_fields[key].annotation)
        elif get_origin(member) is dict:
            found += _members(get_args(member)[1])
        elif get_origin(member) in (list, tuple) and isinstance(key, int):
            found += _members(get_args(member)[0])
    return found


def _members(annotation: Any) -> list[Any]:
    """The members of a union, those of unions inside included; anything else alone."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation]


def _is_block(member: Any) -> bool:
    return isinstance(member, type) and get_origin(member) is None and issubclass(member, BaseModel)


def _is_words(member: Any) -> bool:
    if get_origin(member) is Literal:
        return all(isinstance(value, str) for value in get_args(member))
    return member in (str, Path)


def _tags(block: type[BaseModel]) -> list[str]:
    """The words by which a union may tell this block from others."""
    return [
        value
        for field in block.model_fields.values()
        for member in _members(field.annotation)
        if get_origin(member) is Literal
        for value in get_args(member)
        if isinstance(value, str)
    ]
