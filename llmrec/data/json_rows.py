"""Tables out of JSON: one object per line, or one list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json as arrow_json

from llmrec.data.reading import BLOCK, Choose, open_file, shortened
from llmrec.data.text_values import as_column
from llmrec.errors import DataError

_DEEPEST = (
    100  # levels of brackets; what is nested deeper is no description of an item, and libraries fail at some depth
)
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])')
_KEY = re.compile(rb'"([^"\\]+)"\s*:')


def read_json(path: Path, choose: Choose | None) -> pa.Table:
    """The chosen columns of all objects, in the order in which the file first names them; null where an object lacks one.

    Raises DataError for a line that is no object, and what pyarrow raises: call it inside `reading`.
    """
    kinds = _simple_kinds(path, choose) if choose else {}
    if kinds:
        try:
            return _read_fast(path, kinds)
        except pa.ArrowException:
            pass  # mixed kinds or a broken line: the reader below copes, or says which line it is
    rows = _rows(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    wanted = choose(names) if choose else dict.fromkeys(names)
    return pa.table({name: _column(rows, name, kind, path) for name, kind in wanted.items()})


def _simple_kinds(path: Path, choose: Choose) -> dict[str, pa.DataType]:
    """The chosen columns and their types where the first line shows all of them and their values are simple; else none."""
    with open_file(path) as file:
        try:
            first = json.loads(file.readline().decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return {}
        if not isinstance(first, dict):
            return {}
        names = dict.fromkeys(first)
        while lines := file.readlines(BLOCK):
            # Keys of nested objects are among these, too: then the slow reader is taken without need.
            names |= dict.fromkeys(key.decode("utf-8", "replace") for key in set(_KEY.findall(b"".join(lines))))
    kinds = {name: _json_type(first.get(name)) for name in choose(list(names))}
    return kinds if all(kinds.values()) else {}


def _json_type(value: object) -> pa.DataType | None:
    return {str: pa.string(), int: pa.int64(), float: pa.float64()}.get(type(value))


def _read_fast(path: Path, kinds: dict[str, pa.DataType]) -> pa.Table:
    with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
        table = arrow_json.read_json(
            stream,
            read_options=arrow_json.ReadOptions(block_size=BLOCK),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema(list(kinds.items())), unexpected_field_behavior="ignore"
            ),
        )
    table.validate(full=True)  # text that is no UTF-8
    return table


def _column(rows: list[dict], name: str, kind: pa.DataType | None, path: Path) -> pa.Array:
    values = [row.get(name) for row in rows]
    if kind is not None and not all(isinstance(value, list) for value in values):
        # a column of plain values is wanted, such as ids: an object or a list among them is no such value
        for number, value in enumerate(values, start=1):
            if isinstance(value, dict | list):
                raise DataError(
                    f"'{path}': {name} should be text or a whole number in every row, but row {number} has "
                    f"{shortened(json.dumps(value))}. Write the value itself, or, for items, a list in every row."
                )
    try:
        return as_column(values)
    except UnicodeError:
        number = next(number for number, value in enumerate(values, start=1) if not is_unicode(value))
        raise DataError(
            f"'{path}': {name} in row {number} holds half of a character (a lone surrogate such as \\ud800). Write it again."
        ) from None


def is_unicode(value: object) -> bool:
    """Whether a text, or every text within a value of JSON, has whole characters only."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return False
    return True


def _rows(path: Path) -> list[dict]:
    with open_file(path) as file:
        text = file.read().decode("utf-8-sig")
    is_list = text.lstrip().startswith("[")
    what = "entry" if is_list else "line"
    rows = []
    for number, row in _entries(text, path) if is_list else _lines(text, path):
        if not isinstance(row, dict):
            raise DataError(f"{what} {number} of '{path}' should be a JSON object but is: {shortened(str(row))}.")
        rows.append(row)
    return rows


def _entries(text: str, path: Path) -> Iterator[tuple[int, object]]:
    _check_depth(text, f"'{path}'")
    try:
        return enumerate(json.loads(text), start=1)
    except ValueError as error:
        raise DataError(f"'{path}' is not valid JSON ({error}). It may be cut short; export it again.") from error


def _lines(text: str, path: Path) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        _check_depth(line, f"line {number} of '{path}'")
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(
                f"line {number} of '{path}' is not JSON ({error}): {shortened(line)}. "
                "Expected one object per line; the file may be cut short."
            ) from error


def _check_depth(text: str, where: str) -> None:
    if text.count("[") + text.count("{") <= _DEEPEST:
        return
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += 1 if found[1] else -1 if found[2] else 0
        if depth > _DEEPEST:
            raise DataError(f"{where} has brackets inside brackets to more than {_DEEPEST} levels. Flatten it.")
