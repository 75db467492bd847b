"""What callers hand in, checked before anything is computed: a wrong argument gets a sentence, never a traceback."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import TypeVar

import numpy as np

from llmrec.errors import RequestError

Entry = TypeVar("Entry")


def checked_ids(item_ids: Collection[str], what: str) -> Sequence[str]:
    """The same ids, checked to be texts: a number may be a dense item given by mistake. Raises RequestError."""
    checked_collection(item_ids, what)
    ids = item_ids if isinstance(item_ids, list | tuple) else list(item_ids)
    for item_id in ids:
        if not isinstance(item_id, str):
            raise RequestError(
                f"{what} should be a list of item ids, which are texts, but it holds {item_id!r}, "
                f"a {type(item_id).__name__}. Write '{item_id}' if that is the id."
            )
    return ids


def checked_history(item_ids: Sequence[str]) -> Sequence[str]:
    """A history's ids, which have an order. Raises RequestError."""
    if isinstance(item_ids, Set):
        raise RequestError("a history has an order, oldest first, but a set came, which has none. Write a list.")
    return checked_ids(item_ids, "a history")


def checked_collection(item_ids: Collection[str], what: str) -> Collection[str]:
    """The same, checked to be a collection of ids of a known length; the ids themselves are not read. Raises RequestError."""
    if isinstance(item_ids, str):
        raise RequestError(f"{what} should come as a list of ids, but one text came. Write ['{item_ids[:60]}'].")
    if not _is_collection(item_ids):
        raise RequestError(f"{what} should come as a list of ids, but {_described(item_ids)} came. Write [] for none.")
    return item_ids


def checked_rows(rows: Sequence[Entry], what: str) -> list[Entry]:
    """A list with one entry a request. Raises RequestError for what is no list: a text's letters are no entries."""
    if not _is_collection(rows) or isinstance(rows, Set):
        raise RequestError(f"{what} should come as a list, one entry per user, but {_described(rows)} came.")
    return list(rows)


def checked_count(k: int) -> int:
    """k as an int; numpy's whole numbers are taken too. Raises RequestError."""
    if not is_count(k):
        raise RequestError(
            f"k counts the items to recommend and should be a whole number, 1 or more, but it is {_described(k)}."
        )
    return int(k)


def is_count(value: object, least: int = 1) -> bool:
    """Whether this is a whole number, Python's or numpy's, of at least so much; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


def checked_path(path: str | Path, what: str) -> Path:
    """Raises RequestError for what is no path."""
    if not isinstance(path, str | Path):
        raise RequestError(f"{what} should come as a path, but it is {_described(path)}.")
    return Path(path)


def checked_flag(value: bool, what: str) -> bool:
    """Raises RequestError for what is not True or False: the text "false" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise RequestError(f"{what} should be True or False, but it is {_described(value)}.")
    return bool(value)


def checked_instruction(instruction: str | None) -> str | None:
    """A wish in words, or None. Raises RequestError."""
    if instruction is not None and not isinstance(instruction, str):
        raise RequestError(f"an instruction should be a text, but it is {_described(instruction)}.")
    return instruction


def _is_collection(value: object) -> bool:
    has_no_axes = isinstance(value, np.ndarray) and value.ndim == 0
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping) and not has_no_axes


def _described(value: object) -> str:
    return "None" if value is None else f"{repr(value)[:60]} ({type(value).__name__})"
