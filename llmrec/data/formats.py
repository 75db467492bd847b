"""Tables out of files: csv, tsv, parquet, JSON lines, RecBole's atomic files, each also gzipped. One sentence an error.

Every reader takes `choose`, which is shown the column names of the file and answers which to read and as what type
(a type of None: as found), so that ids such as "007" stay text and unneeded columns cost nothing. Without `choose` all
columns are read, from text files as text.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from llmrec.data.columns import listed
from llmrec.data.json_rows import read_json
from llmrec.data.quoting import encloses_fields
from llmrec.data.reading import BLOCK, Choose, open_file, reading, shortened
from llmrec.errors import DataError

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
_NO_VALUE = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "<NA>"]


def read_table(path: Path, choose: Choose | None = None) -> pa.Table:
    """The chosen columns of the file under the names that they have there (RecBole's without their `:type`).

    Raises DataError for a file that is missing, empty, truncated, of another kind than its name says, or unreadable.
    """
    kind = kind_of(path)
    check_start(path, kind)
    reader = {"csv": _read_csv, "parquet": read_parquet, "json": read_json, "atomic": _read_atomic}[kind]
    with reading(path, _described(kind)):
        return reader(path, choose)


def read_parquet(path: Path, choose: Choose | None = None, *, memory_map: bool = False) -> pa.Table:
    """The chosen columns of a parquet file, perhaps a gzipped one, each value looked at. Call it inside `reading`."""
    is_gzipped = path.suffix.lower() == ".gz"
    source = pa.BufferReader(gzip.decompress(path.read_bytes())) if is_gzipped else path
    with pq.ParquetFile(source, memory_map=memory_map and not is_gzipped) as file:
        names = file.schema_arrow.names
        _check_once(names, path)
        wanted = list(_chosen(choose, names))
        table = file.read(columns=wanted).select(wanted)
    table.validate(full=True)  # else text that is no UTF-8 fails later, and somewhere else
    return table


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def kind_of(path: Path) -> str:
    """The kind of file that the name promises: a value of KINDS. Raises DataError for an ending that is none of these."""
    kind = KINDS.get(_suffix(path))
    if kind is None:
        raise DataError(
            f"'{path}' has no ending that tells its format. Expected one of {', '.join(KINDS)} (each also with .gz), "
            "or a MovieLens .zip. Save it as one of these."
        )
    return kind


def check_start(path: Path, kind: str) -> None:
    """Look at the first bytes, because the parsers' own words for a file of the wrong kind lead astray."""
    with reading(path, _described(kind)), open_file(path) as file:
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
        "json": "one JSON object per line",
        "atomic": "a header line of name:type and rows of text",
    }[kind]


def read_header(path: Path, delimiter: str | None, *, quoting: bool = True) -> tuple[list[str], str]:
    """The column names of the first line, and the delimiter (found out where it is None)."""
    with open_file(path) as file:
        line = file.readline().decode("utf-8-sig").rstrip("\r\n")
    if not line.strip():
        raise DataError(f"'{path}' begins with an empty line, but a header line was expected. Remove the empty one.")
    if delimiter is None:
        delimiter = max(",\t;", key=line.count)  # ties: the comma
    names = next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE))
    return names, delimiter


def _check_once(names: Sequence[str], path: Path) -> None:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise DataError(f"'{path}' has the column '{shortened(repeated[0])}' more than once. Rename or remove one.")


def _read_csv(path: Path, choose: Choose | None) -> pa.Table:
    names, delimiter = read_header(path, "\t" if _suffix(path) == ".tsv" else None)
    # Columns without a name get the one that pandas gives them.
    names = [name if name.strip() else f"Unnamed: {position}" for position, name in enumerate(names)]
    _check_once(names, path)
    quote = '"' if encloses_fields(path, len(names), delimiter) else False
    return _read_delimited(path, names, _chosen(choose, names), delimiter, quote)


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
                    read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, block_size=BLOCK),
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
    header, _ = read_header(path, "\t", quoting=False)
    if not all(":" in name for name in header):
        raise DataError(
            f"'{path}' should have a header of name:type columns, as RecBole's atomic files do (user_id:token, ...), "
            f"but has: {listed(header)}. Name it .tsv if it is an ordinary table."
        )
    kinds = dict(name.rsplit(":", 1) for name in header)
    _check_once([name.rsplit(":", 1)[0] for name in header], path)
    table = _read_delimited(path, list(kinds), _chosen(choose, list(kinds)), "\t", False)
    for position, name in enumerate(table.column_names):
        if kinds[name] == "token_seq" and not any(word in name.lower() for word in ("title", "name")):
            words = pc.split_pattern(pc.utf8_trim_whitespace(table[name].cast(pa.string())), " ")
            table = table.set_column(position, name, words)
    return table
