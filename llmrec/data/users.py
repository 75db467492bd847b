"""Users to recommend for, out of a file or a data folder: read row by row, so that any number of them takes the memory of a few.

Columns of a file: user_id; history, item ids, oldest first; and, where it has them, candidates, exclude (item ids) and instruction.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as types

from llmrec.data.columns import listed, match_columns
from llmrec.data.folder import Data
from llmrec.data.formats import check_start, kind_of, read_header
from llmrec.data.ids import LOST, is_list
from llmrec.data.item_columns import is_text
from llmrec.data.json_rows import is_unicode
from llmrec.data.quoting import encloses_fields
from llmrec.data.reading import BLOCK, open_file, quoted, reading, shortened
from llmrec.data.text_values import plain_text
from llmrec.errors import ConfigError, DataError

LISTS = ("history", "candidates", "exclude")
COLUMNS = ("user_id", *LISTS, "instruction")
SEPARATOR = "|"  # between the ids of a list in a csv or tsv file, as between genres
_ROWS = 1024  # of a parquet file that are Python values at a time


@dataclass(frozen=True, slots=True)
class User:
    """One row: whom to recommend for, and what this user may receive.

    history: item ids, oldest first, perhaps none; candidates: the only items that may come out, at least one, or None for the whole
    catalogue; exclude: items that must not; instruction: a wish in words.
    """

    user_id: str
    history: list[str]
    candidates: list[str] | None = None
    exclude: list[str] | None = None
    instruction: str | None = None


class UserFile:
    """The users of a parquet, csv, tsv or jsonl file (text files also .gz), in its order; one that stands twice is read twice.

    `passed_over`: the file's columns that say nothing here. Raises DataError for a file that cannot be read, lacks a column or has a
    row that cannot be used: it names the row, counted from 1 without the header.
    """

    def __init__(self, path: Path, separator: str = SEPARATOR) -> None:
        if not separator:
            raise ConfigError("the separator between the ids of a list should be a character or more, such as '|'.")
        self.path, self.separator = path, separator
        self.kind = kind_of(path)
        if self.kind == "atomic" or path.suffix.lower() == ".json":
            raise DataError(f"'{path}': users are read from .parquet, .csv, .tsv or .jsonl. Save them as one of these.")
        if self.kind == "parquet":
            with reading(path, "a parquet table of users"):
                self.names = pq.read_schema(path).names
        elif self.kind == "csv":
            check_start(path, self.kind)
            with reading(path, "a table of users"):
                self.names, self._delimiter = read_header(path, "\t" if ".tsv" in path.suffixes else None)
        else:
            self.names = list(dict.fromkeys(name for line in itertools.islice(self._lines(), _ROWS) for name in line))
        repeated = [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]
        if repeated:
            raise DataError(f"'{path}' has the column '{shortened(repeated[0])}' more than once. Rename or remove one.")

    @cached_property
    def columns(self) -> dict[str, str]:
        """What each column that is read is called in the file: those of COLUMNS that it has."""
        found = match_columns(self.names, ("user_id",), (), self.path, {})
        # A line of JSON may have what the first ones lack.
        found |= {
            name: name for name in COLUMNS[1:] if name in self.names or (self.kind == "json" and name != "history")
        }
        for name in COLUMNS[:2]:
            if name not in found:
                raise DataError(
                    f"'{self.path}' needs a column '{name}', but has only: {listed(self.names)}. A file of users has one row a user: "
                    "user_id, history (item ids, oldest first), and perhaps candidates, exclude, instruction."
                )
        return found

    @property
    def passed_over(self) -> list[str]:
        """The columns that are not read."""
        return [name for name in self.names if name not in self.columns.values()]

    def __iter__(self) -> Iterator[User]:
        values = {"parquet": self._parquet, "csv": self._csv, "json": self._json}[self.kind]
        for number, row in enumerate(values(), start=1):
            yield self._user(row, f"'{self.path}', row {number}")

    def _user(self, row: dict, where: str) -> User:
        lists = {name: self._ids(row.get(name), name, where) for name in LISTS}
        if lists["history"] is None:
            raise DataError(f"{where}: the history is missing. Write an empty list for a new user.")
        if lists["candidates"] == []:
            raise DataError(
                f"{where}: the list of candidates is empty. Leave it out (null) to choose from the whole catalogue."
            )
        instruction = row.get("instruction")
        if instruction is not None and not isinstance(instruction, str):
            raise DataError(
                f"{where}: the instruction should be a text, but it is {shortened(json.dumps(instruction, default=str))}."
            )
        return User(_id(row.get("user_id"), "user_id", where), **lists, instruction=instruction or None)

    def _ids(self, value: object, name: str, where: str) -> list[str] | None:
        if isinstance(value, str) and self.kind == "csv":
            if not value.strip():
                return [] if name == "history" else None
            parts = value.split() if self.separator.isspace() else value.split(self.separator)
            return [_id(part.strip(), name, where) for part in parts]
        if value is None:
            return None
        if not isinstance(value, list):
            raise DataError(
                f"{where}: {name} should be a list of item ids, but it is {shortened(json.dumps(value, default=str))}."
            )
        if all(map(_is_plain_id, value)):
            return value
        return [_id(part, name, where) for part in value]

    def _parquet(self) -> Iterator[dict]:
        # In pieces: row groups of a million users would else be in memory as a whole.
        opened = pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20)
        with reading(self.path, "a parquet table of users"), opened as file:
            names = list(self.columns.values())
            for name, column in self.columns.items():
                self._check_type(name, file.schema_arrow.field(column).type)
            for batch in file.iter_batches(batch_size=_ROWS, columns=names):
                batch.validate(full=True)  # else text that is no UTF-8 fails later, and somewhere else
                lists = [batch[name].to_pylist() for name in names]
                for values in zip(*lists, strict=True):
                    yield dict(zip(self.columns, values, strict=True))

    def _check_type(self, name: str, kind: pa.DataType) -> None:
        """Raises DataError for a column whose values are neither what is expected there nor null."""
        if name in LISTS:
            expected, is_right = "lists of item ids", is_list(kind) and _may_be_ids(kind.value_type)
        elif name == "instruction":
            expected, is_right = "text", is_text(kind)
        else:
            expected, is_right = "text or whole numbers", _may_be_ids(kind)
        if is_right or types.is_null(kind):
            return
        raise DataError(
            f"'{self.path}': {name} should be {expected} in every row, but the column holds {shortened(str(kind))}."
        )

    def _csv(self) -> Iterator[dict]:
        csv.field_size_limit(BLOCK)  # a history of 100,000 ids is long, but no mistake
        quoting = csv.QUOTE_MINIMAL if encloses_fields(self.path, len(self.names), self._delimiter) else csv.QUOTE_NONE
        with reading(self.path, "a table of users"), open_file(self.path) as file:
            lines = (line.decode("utf-8-sig" if not number else "utf-8") for number, line in enumerate(file))
            rows = csv.reader(lines, delimiter=self._delimiter, quoting=quoting)
            next(rows)
            number = 0
            for row in rows:
                if not row:
                    continue
                number += 1
                if len(row) != len(self.names):
                    raise DataError(
                        f"'{self.path}', row {number}: there are {len(row)} fields, but the header names {len(self.names)}. "
                        f"Ids of a list are separated by '{self.separator}'."
                    )
                named = dict(zip(self.names, row, strict=True))
                yield {name: named[column] for name, column in self.columns.items()}

    def _json(self) -> Iterator[dict]:
        for row in self._lines():
            yield {name: row.get(column) for name, column in self.columns.items()}

    def _lines(self) -> Iterator[dict]:
        with reading(self.path, "one JSON object per line"), open_file(self.path) as file:
            number = 0
            for place, line in enumerate(file):
                text = line.decode("utf-8-sig" if not place else "utf-8")
                if not text.strip():
                    continue
                number += 1
                try:
                    row = json.loads(text)
                except ValueError as error:
                    raise DataError(
                        f"'{self.path}', row {number}: this is not JSON ({error}): {shortened(text)}. Expected one object per line."
                    ) from error
                if not isinstance(row, dict):
                    raise DataError(
                        f"'{self.path}', row {number}: expected a JSON object, but there is {shortened(text)}."
                    )
                yield row


def users_of_data(data: Data) -> Iterator[User]:
    """The users of a data folder, each with all its events as the history."""
    ids, histories = data.catalog.table["item_id"].combine_chunks(), data.interactions.histories
    for row, user_id in enumerate(data.user_ids):
        yield User(user_id, ids.take(pa.array(histories[row])).to_pylist())


def _may_be_ids(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)


def _is_plain_id(value: object) -> bool:
    return (
        isinstance(value, str) and bool(value.strip()) and value not in LOST and (value.isascii() or is_unicode(value))
    )


def _id(value: object, name: str, where: str) -> str:
    """An id as text. Raises DataError for one that is lost, or neither text nor a whole number."""
    if _is_plain_id(value):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        return plain_text(value)
    what = name if name == "user_id" else f"an item id in {name}"
    if value is None or value != value:
        raise DataError(f"{where}: {what} is missing. Fill it in.")
    if not isinstance(value, str):
        shown = shortened(json.dumps(value, default=str))
        raise DataError(f"{where}: {what} should be text or a whole number, but it is {shown}.")
    if not is_unicode(value):
        raise DataError(
            f"{where}: {what} holds half of a character (a lone surrogate such as \\ud800). Write it again."
        )
    raise DataError(f"{where}: {what} is missing ({quoted(value)}). Fill it in.")
