"""Whether the quotation marks of a delimited file enclose fields, or are letters of a file that was written without quoting.

A title that begins with a lone mark ("Weird Al) would otherwise swallow the lines after it, up to the next mark, without a word.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llmrec.data.reading import open_file
from llmrec.errors import DataError

_PIECE = 8 << 20  # bytes of whole lines that are looked at together
_INSIDE = re.compile(rb'(?:[^"]|"")*+"')  # the rest of an enclosed field with its closing mark


def encloses_fields(path: Path, num_columns: int, delimiter: str) -> bool:
    """Whether to read the file with quoting.

    Without quoting where a mark opens a field that is not closed at a delimiter or a line's end, and every line has the right number
    of fields as it stands. Raises DataError, naming the line, where neither way of reading fits, or where both do.
    """
    separator = delimiter.encode()
    with open_file(path) as file:
        opened, closed = _odd_field(file, separator)
    if opened is None:
        return True
    with open_file(path) as file:
        unfit = _first_unfit_line(file, num_columns, separator)
    if closed is None and unfit is not None:
        raise DataError(
            f"'{path}': in line {opened} a field begins with a quotation mark that is not closed at the field's end, and line {unfit} "
            f"has not {num_columns} fields where marks are mere letters. Close the mark, or double it where it belongs to the text."
        )
    if closed is not None and unfit is None:
        raise DataError(
            f"'{path}': a quotation mark in line {opened} is closed in line {closed}. That may be one field over several lines, or "
            f"marks that belong to the text: each line has {num_columns} fields. Write that field in one line, or double the marks."
        )
    return closed is not None


def _odd_field(file: BinaryIO, delimiter: bytes) -> tuple[int | None, int | None]:
    """Where the quoting may be none: lines (from 1) where a mark opens a field and closes it.

    (line, None) for the first that is not closed as it should be; else (line, line) for the first that holds delimiters and goes over
    several lines; (None, None) where there are neither.
    """
    field = re.compile(rb'(?!")[^' + re.escape(delimiter) + rb"\r\n]*+|" + rb'"' + _INSIDE.pattern)
    number, opened, has_delimiter, spanning = 0, None, False, (None, None)
    while lines := file.readlines(_PIECE):
        if opened is None and _is_regular(b"".join(lines), delimiter):
            number += len(lines)
            continue
        for line in lines:
            number += 1
            position = 0
            if opened is not None:
                rest = _INSIDE.match(line)
                has_delimiter |= delimiter in line[: rest.end() if rest else None]
                if rest is None:
                    continue
                if has_delimiter and spanning == (None, None):
                    spanning = opened, number
                position = rest.end()
            elif b'"' not in line:
                continue
            opened_before = opened
            position, opened = _walk(line, position, field, delimiter, number, is_inside=opened is not None)
            if position is None:
                return opened_before or number, None
            has_delimiter = opened is not None and delimiter in line[position:]
    return (opened, None) if opened is not None else spanning


def _walk(
    line: bytes, position: int, field: re.Pattern[bytes], delimiter: bytes, number: int, *, is_inside: bool
) -> tuple[int | None, int | None]:
    """Goes through the fields of a line; the position and `number` where the last one stays open, (end, None) where none does, and
    (None, None) where something stands after a closing mark."""
    while True:
        if not is_inside:
            found = field.match(line, position)
            if found is None:  # begins with a mark and has no other
                return position, number
            position = found.end()
        is_inside = False
        if line[position : position + 1] != delimiter:
            return (position if not line[position:].strip(b"\r\n") else None), None
        position += 1


def _is_regular(text: bytes, delimiter: bytes) -> bool:
    """Whether every mark of these whole lines opens a field, closes it in the same line, or is doubled inside one."""
    letters = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero(letters == ord('"'))
    if not len(marks):
        return True
    if len(marks) % 2:
        return False
    opens, closes = marks[::2], marks[1::2]
    ends = np.flatnonzero(letters == ord("\n"))
    if (np.searchsorted(ends, opens) != np.searchsorted(ends, closes)).any():
        return False
    before, after = np.full(len(opens), ord("\n")), np.full(len(opens), ord("\n"))
    before[opens > 0] = letters[opens[opens > 0] - 1]
    after[closes + 1 < len(letters)] = letters[closes[closes + 1 < len(letters)] + 1]
    doubled = np.append(opens[1:] == closes[:-1] + 1, False)  # a closing mark and the opening one after it
    is_open = np.isin(before, [ord(delimiter), ord("\n")])
    is_open[1:] |= doubled[:-1]
    is_closed = np.isin(after, [ord(delimiter), ord("\n"), ord("\r")]) | doubled
    return bool(is_open.all() and is_closed.all())


def _first_unfit_line(file: BinaryIO, num_columns: int, delimiter: bytes) -> int | None:
    """The first line (from 1) that has another number of fields where marks are letters; empty lines are none."""
    for number, line in enumerate(file, start=1):
        if line.strip(b"\r\n") and line.count(delimiter) != num_columns - 1:
            return number
    return None
