"""Python values as texts and as columns of texts."""

from __future__ import annotations

import json

import pyarrow as pa


def plain_text(value: object) -> str:
    """A value as text: whole floats without ".0", nested values as JSON without the members that have no value.

    A table has every member in every row, null where a row lacks it. Where nothing is left the text is "".
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict | list | tuple):
        kept = _without_empty(value)
        return "" if kept is None else json.dumps(kept, ensure_ascii=False, default=str)
    return str(value)


def as_column(values: list) -> pa.Array:
    """Python values as an Arrow array; values of mixed kinds, such as 1 and "1", become text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else plain_text(value) for value in values], pa.string())


def _without_empty(value: object) -> object:
    """The value without members that are null, empty, or hold nothing but such; None where nothing is left."""
    if isinstance(value, dict):
        return {key: kept for key, member in value.items() if (kept := _without_empty(member)) is not None} or None
    if isinstance(value, list | tuple):
        return [kept for member in value if (kept := _without_empty(member)) is not None] or None
    return None if value == "" or value != value else value  # NaN is unequal to itself
