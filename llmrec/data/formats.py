"""Tables out of files: csv, tsv, parquet, JSON lines, RecBole's atomic files, each also gzipped. One sentence an error.

Every reader takes `choose`, which is shown the column names of the file and answers which to read and as what type
(a type of None: as found), so that ids such as "007" stay text and unneeded columns cost nothing. Without `choose` all
columns are read, from text files as text.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json
import pyarrow.parquet as pq

from llmrec.errors import DataError

Choose = Callable[[list[str]], dict[str, pa.DataType | None]]

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".inter": "atomic",
    ".item": "atomic",
    ".user": "atomic",
}
_MAGIC = {b"PAR1": "a parquet file", b"\x1f\x8b": "gzipped data", b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF"}
# A row must fit into one block of Arrow's text readers; a title of millions of characters is odd but no error.
_BLOCK = 64 << 20
_NO_VALUE = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "<NA>"]
_BROKEN = (OSError, EOFError, zlib.error, pa.ArrowException)


def read_table(path: Path, choose: Choose | None = None) -> pa.Table:
    """The chosen columns of the file under the names that they have there (RecBole's without their `:type`).

    Raises DataError for a file that is missing, empty, truncated, of another kind than its name says, or unreadable.
    """
    kind = _kind(path)
    _check_start(path, kind)
    reader = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json, "atomic": _read_atomic}[kind]
    with _errors_in_words(path, kind):
        return reader(path, choose)


def plain_text(value: object) -> str:
    """A value as text: whole floats without ".0", nested values as JSON."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)


def as_column(values: list) -> pa.Array:
    """Python values as an Arrow array; values of mixed kinds, such as 1 and "1", become text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else plain_text(value) for value in values], pa.string())


def shortened(text: str, length: int = 60) -> str:
    """The text, cut to `length` characters so that it fits into a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _kind(path: Path) -> str:
    kind = KINDS.get(_suffix(path))
    if kind is None:
        raise DataError(
            f"'{path}' has no ending that tells its format. Expected one of {', '.join(KINDS)} (each also with .gz), "
            "or a MovieLens .zip. Save it as one of these."
        )
    return kind


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _check_start(path: Path, kind: str) -> None:
    """Look at the first bytes, because the parsers' own words for a file of the wrong kind lead astray."""
    if path.is_dir():
        raise DataError(f"'{path}' is a folder, but a file was expected. Name the file inside it.")
    with _errors_in_words(path, kind), _open(path) as file:
        start = file.read(4096)
    if not start.strip():
        raise DataError(f"'{path}' is empty. Expected {_described(kind)}.")
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    if found is None and b"\0" in start:
        found = "binary data"
    if kind == "parquet":
        if found != "a parquet file":
            raise DataError(f"'{path}' is named as parquet but does not begin like one. Name it by what it holds.")
    elif found:
        raise DataError(f"'{path}' holds {found}, but its name promises {_described(kind)}. Name it by what it holds.")


def _described(kind: str) -> str:
    return {
        "csv": "a header line and rows of text",
        "parquet": "a parquet table",
        "json": "one JSON object a line",
        "atomic": "a header line of name:type and rows of text",
    }[kind]


@contextmanager
def _errors_in_words(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"there is no file '{path}'. Check the path.") from error
    except PermissionError as error:
        raise DataError(f"'{path}' may not be read: permission denied.") from error
    except UnicodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except _BROKEN as error:
        reason = shortened(str(error), 300).rstrip(".")
        if "UTF8" in reason:
            raise DataError(f"'{path}' is not UTF-8 text ({reason}). Save it as UTF-8.") from error
        raise DataError(
            f"'{path}' could not be read as {_described(kind)}: {reason}. "
            "It may be cut short or damaged; copy or export it again."
        ) from error


def _header(path: Path, delimiter: str | None) -> tuple[list[str], str]:
    """The column names of the first line, and the delimiter (found out where it is None)."""
    with _open(path) as file:
        line = file.readline().decode("utf-8-sig").rstrip("\r\n")
    if delimiter is None:
        delimiter = max(",\t;", key=line.count)  # ties: the comma
    names = next(csv.reader([line], delimiter=delimiter), [])
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise DataError(f"'{path}' has the column '{repeated[0]}' more than once. Rename or remove one.")
    return names, delimiter


def _read_csv(path: Path, choose: Choose | None) -> pa.Table:
    names, delimiter = _header(path, "\t" if _suffix(path) == ".tsv" else None)
    return _read_delimited(path, names, _chosen(choose, names), delimiter, '"')


def _chosen(choose: Choose | None, names: list[str]) -> dict[str, pa.DataType | None]:
    return choose(names) if choose else dict.fromkeys(names, pa.string())


def _read_delimited(
    path: Path, names: list[str], types: dict[str, pa.DataType | None], delimiter: str, quote: str | bool
) -> pa.Table:
    # Types are found out from the first block only: where a later one disagrees, that column is read again as text.
    for attempt in (types, {name: kind or pa.string() for name, kind in types.items()}):
        convert = arrow_csv.ConvertOptions(
            include_columns=list(attempt),
            column_types={name: kind for name, kind in attempt.items() if kind},
            null_values=_NO_VALUE,
            # Text stays as written (a film may be called "None"); for numbers the words above mean "no value".
            strings_can_be_null=False,
        )
        try:
            with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
                return arrow_csv.read_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, block_size=_BLOCK),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote)
                    ),
                    convert_options=convert,
                )
        except pa.ArrowInvalid as error:
            if "CSV conversion error" not in str(error) or None not in attempt.values():
                raise
    raise AssertionError("a column read as text cannot fail to convert")


def _read_atomic(path: Path, choose: Choose | None) -> pa.Table:
    """RecBole: tab-separated, unquoted, header `name:type`; token_seq columns become lists, save the titles."""
    header, _ = _header(path, "\t")
    kinds = dict(name.rsplit(":", 1) for name in header if ":" in name)
    if len(kinds) < len(header):
        raise DataError(
            f"'{path}' should have a header of name:type columns, as RecBole's atomic files do (user_id:token, ...), "
            f"but has: {', '.join(header)}. Name it .tsv if it is an ordinary table."
        )
    table = _read_delimited(path, list(kinds), _chosen(choose, list(kinds)), "\t", False)
    for position, name in enumerate(table.column_names):
        if kinds[name] == "token_seq" and not any(word in name.lower() for word in ("title", "name")):
            words = pc.split_pattern(pc.utf8_trim_whitespace(table[name].cast(pa.string())), " ")
            table = table.set_column(position, name, words)
    return table


def _read_parquet(path: Path, choose: Choose | None) -> pa.Table:
    source = pa.BufferReader(gzip.decompress(path.read_bytes())) if path.suffix.lower() == ".gz" else path
    with pq.ParquetFile(source) as file:
        return file.read(columns=list(_chosen(choose, file.schema_arrow.names)))


def _read_json(path: Path, choose: Choose | None) -> pa.Table:
    with _open(path) as file:
        first = file.readline()
    try:
        row = json.loads(first.decode("utf-8-sig"))
    except ValueError:
        row = None
    if choose and isinstance(row, dict):
        kinds = {name: _json_type(row[name]) for name in choose(list(row))}
        if all(kinds.values()):  # simple values under names known from the first line: Arrow reads them fast
            try:
                return _read_json_lines_fast(path, kinds)
            except pa.ArrowException:
                pass  # mixed kinds or a broken line: the reader below copes, or says which line it is
    rows = _json_rows(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: as_column([row.get(name) for row in rows]) for name in _chosen(choose, names)})


def _json_type(value: object) -> pa.DataType | None:
    return {str: pa.string(), int: pa.int64(), float: pa.float64()}.get(type(value))


def _read_json_lines_fast(path: Path, kinds: dict[str, pa.DataType]) -> pa.Table:
    with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
        return arrow_json.read_json(
            stream,
            read_options=arrow_json.ReadOptions(block_size=_BLOCK),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema(list(kinds.items())), unexpected_field_behavior="ignore"
            ),
        )


def _json_rows(path: Path) -> list[dict]:
    with _open(path) as file:
        text = file.read().decode("utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise DataError(f"'{path}' is not valid JSON ({error}). It may be cut short; export it again.") from error
        lines = enumerate(rows, start=1)
        what = "entry"
    else:
        lines, what = ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()), "line"
    rows = []
    for number, row in lines:
        if what == "line":
            try:
                row = json.loads(row)
            except ValueError as error:
                raise DataError(
                    f"line {number} of '{path}' is not JSON ({error}): {shortened(row)}. "
                    "Expected one object a line; the file may be cut short."
                ) from error
        if not isinstance(row, dict):
            raise DataError(f"{what} {number} of '{path}' should be a JSON object but is: {shortened(str(row))}.")
        rows.append(row)
    return rows
