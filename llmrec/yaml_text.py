"""Reading YAML from untrusted files: plain values only, and nothing in it costs more than its length."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import yaml

from llmrec.errors import ConfigError

MAX_CHARACTERS = 50_000
MAX_DEPTH = 10
_MAX_BITS = 128  # of a whole number: more has no use as a setting, and Python refuses to print it
_KINDS = {bool: "a boolean (as Yes, No, on and off are)", int: "a number", float: "a number", datetime.date: "a date"}
_KINDS |= {datetime.datetime: "a date", type(None): "nothing", list: "a list", dict: "a mapping"}


def read_yaml(path: str | Path, what: str) -> Any:
    """The value in a YAML file. what: names the text in the sentences of errors, such as "the prompt 'a.yaml'".

    Raises ConfigError as `parse_yaml` does, and for a file that cannot be read or is no text.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: bytes that are not UTF-8, or a path with a zero in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {what}: {reason or error}.") from error
    return parse_yaml(text, what)


def parse_yaml(text: str, what: str) -> Any:
    """The value that a YAML text says, made of dicts, lists, texts, numbers, dates, bytes, true, false and null.

    Raises ConfigError for YAML that is broken, too long or nested too deep, holds aliases (a few lines of them stand for gigabytes),
    a key twice, or a value that is not what it claims to be.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what} is longer than {MAX_CHARACTERS} characters, where a short YAML text should be.")
    try:
        return yaml.load(text, _Loader)  # a safe loader
    # what PyYAML's own constructors raise for `2024-99-99`, `!!int x`, `!!bool x`, `!!timestamp x`
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise ConfigError(f"{what} cannot be read, since it is not valid YAML: {_reason(error)}.") from error


def yaml_kind(value: object) -> str:
    """What YAML reads without quotes where words were wanted: "a date"."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which stops at the first alias and before it goes too deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "it uses aliases, which are not read; write the text out", mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                None, None, f"it is nested more than {MAX_DEPTH} deep", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value[:40]!r} stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > _MAX_BITS:
            raise yaml.MarkedYAMLError(None, None, "a number has too many digits", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        problem = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        return problem + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark else "")
    if isinstance(error, yaml.YAMLError):
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ValueError) and str(error):
        return str(error).splitlines()[0]
    return "a value is not what its tag says"
