"""Items and interactions of a user's own files and datasets under the canonical column names, checked, every error a sentence.

E is the number of events, rows are counted from 1 without the header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from llmrec.data.columns import is_named_like_a_time, match_columns
from llmrec.data.formats import read_table
from llmrec.data.hub_datasets import dataset_table, is_hub_dataset, read_hub_dataset
from llmrec.data.ids import ids_of, one_row_an_event
from llmrec.data.item_columns import split_groups, without_markup
from llmrec.data.movielens import read_archive_interactions, read_archive_items
from llmrec.data.reading import Choose, shortened
from llmrec.data.saved_datasets import read_saved_dataset
from llmrec.errors import DataError

if TYPE_CHECKING:
    import datasets

    Source = str | Path | datasets.Dataset

_MEND_NUMBERS = "Fill it in, or remove those rows or that column."


def read_items(source: Source, columns: Mapping[str, str] | None = None, *, unescape: bool = False) -> pa.Table:
    """The items of a file or dataset, first columns item_id and title, the others under their own names.

    Formats: csv, tsv, parquet, jsonl (each also .gz), RecBole .item, MovieLens .zip; a folder that `Dataset.save_to_disk` wrote,
    hf:owner/name?config=NAME&split=NAME for a dataset of the hub, or a `datasets.Dataset` (both: extra `[datasets]`). Common
    spellings are known (asin, movieId, name, ...); `columns` says which column to use otherwise: {"catalog_id": ..., "title": ...}.
    A column that loses its name to a chosen one goes on as original_NAME. Groups in one text ("Action|Comedy") become lists;
    `unescape` takes the markup of web pages out of texts. Raises DataError for what cannot be read or is missing.
    """
    columns = columns or {}
    columns = {of: columns[key] for of, key in (("item_id", "catalog_id"), ("title", "title")) if key in columns}
    path = _named(source)
    table = read_archive_items(path) if _is_archive(path) else _read(source)
    found = match_columns(table.column_names, ("item_id", "title", "image"), ("item_id", "title"), path, columns)
    if not table.num_rows:
        raise DataError(f"'{path}' has a header but no items. Expected one row per item.")
    renamed = {name: table[source] for name, source in found.items()}
    for name in table.column_names:
        if name not in found.values():
            renamed[f"original_{name}" if name in renamed else name] = table[name]
    renamed["item_id"] = ids_of(table[found["item_id"]], "item_id", path).cast(pa.string())
    items = split_groups(pa.table(renamed))
    return without_markup(items) if unescape else items


def read_interactions(source: Source, columns: Mapping[str, str] | None = None) -> pa.Table:
    """The events of a file or dataset, in its order: E rows. A row with a list of items is one event an entry.

    user_id, item_id: dictionary<int32, string>, no nulls; then, where the file has them, timestamp (int64 seconds, or
    the number that the file has; float64 with fractions), else step (an order without a clock, int64 or float64), and
    rating (float32). The schema's metadata names the column that gave the order (see `order_source`). Formats, spellings
    and `columns` as for `read_items`. Raises DataError for what cannot be read, is missing, lost (NaN, null, empty), out
    of range, or not a number or a date where one should be.
    """
    path = _named(source)
    names = ("user_id", "item_id", "timestamp", "step", "rating")

    chosen = {name: columns[name] for name in names if name in (columns or {})}

    def match(found_names: list[str]) -> dict[str, str]:
        return match_columns(found_names, names, names[:2], path, chosen)

    def choose(found_names: list[str]) -> dict[str, pa.DataType | None]:
        kinds = {"user_id": _DICTIONARY, "item_id": _DICTIONARY}
        matched = {name: kinds.get(canonical) for canonical, name in match(found_names).items()}
        return matched | {name: None for name in found_names if name not in matched and is_named_like_a_time(name)}

    table = read_archive_interactions(path) if _is_archive(path) else _read(source, choose)
    found = match(table.column_names)
    if not table.num_rows:
        raise DataError(f"'{path}' has a header but no interactions. Expected one row per event.")
    table = one_row_an_event(table, found["item_id"], list(found.values()), path)
    if not table.num_rows:
        raise DataError(f"'{path}' has only empty lists of items. Expected at least one event.")
    events = {name: ids_of(table[found[name]], name, path) for name in ("user_id", "item_id")}
    order = "timestamp" if "timestamp" in found else "step"
    if order in found:
        events[order] = _times(table[found[order]], found[order], path)
    if "rating" in found:
        events["rating"] = pa.array(_ratings(table[found["rating"]], found["rating"], path))
    others = [name for name in table.column_names if name not in found.values() and is_named_like_a_time(name)]
    others = [name for name in others if "timestamp" not in chosen and _is_time_throughout(table[name], path)]
    source = {"column": found.get(order), "other_times": others}
    return pa.table(events).replace_schema_metadata({_SOURCE: json.dumps(source)})


def _named(source: Source) -> Path:
    """What sentences call it: a file, a folder, hf:owner/name; a dataset in memory has no name of its own."""
    return Path(source) if isinstance(source, str | Path) else Path("the dataset")


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and not os.path.isdir(path) and not is_hub_dataset(path)


def _read(source: Source, choose: Choose | None = None) -> pa.Table:
    if not isinstance(source, str | Path):
        return dataset_table(source, choose, "the dataset")
    if is_hub_dataset(source):
        return read_hub_dataset(source, choose)
    path = Path(source)
    is_folder = os.path.isdir(path)  # Path.is_dir raises on names that are too long
    return read_saved_dataset(path, choose) if is_folder else read_table(path, choose)


def order_source(table: pa.Table) -> tuple[str | None, list[str]]:
    """Of a table from `read_interactions`: the file's column that gave the order (None: its rows' own order did), and the
    columns that hold a time in every row too and were passed over; none where the user named the column of times."""
    source = json.loads(table.schema.metadata[_SOURCE])
    return source["column"], source["other_times"]


_SOURCE = b"llmrec.order"
# What clocks show from 1990 to 2099, as days such as 20240131 and as seconds, ms, us and ns since 1970.
_CLOCKS = [(19900101, 20991231), *((631_152_000 * unit, 4_102_444_800 * unit) for unit in (1, 10**3, 10**6, 10**9))]


_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def _times(column: pa.ChunkedArray, what: str, path: Path) -> pa.Array:
    """Numbers as they are, dates and times as unix seconds: int64, or float64 where there are fractions."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        column = _times_of_text(column, what, path)
    if types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if types.is_timestamp(column.type):
        _refuse(pc.is_null(column), f"{what} is missing", _MEND_NUMBERS, path)
        a_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
        ticks = column.cast(pa.int64()).to_numpy()
        while a_second > 1 and not (ticks % 10).any():
            ticks, a_second = ticks // 10, a_second // 10
        # Seconds with nine decimals of our days are more than a double holds: those stay whole, in the column's own unit.
        return pa.array(ticks if a_second == 1 or np.abs(ticks).max() > 2**53 else ticks / a_second)
    numbers = _numbers(column, what, path)
    if numbers.dtype.kind == "f":
        _refuse_far(pa.array(numbers), (numbers < -(2.0**63)) | (numbers >= 2.0**63), what, "-2^63 to 2^63", path)
        if (np.floor(numbers) == numbers).all():
            numbers = numbers.astype(np.int64)
    return pa.array(numbers)


def _ratings(column: pa.ChunkedArray, what: str, path: Path) -> np.ndarray:
    """float32 (E,), finite."""
    numbers = _numbers(column, what, path)
    limit = float(np.finfo(np.float32).max)
    _refuse_far(
        pa.array(numbers), np.abs(numbers.astype(np.float64)) > limit, what, f"{-limit:.2g} to {limit:.2g}", path
    )
    return numbers.astype(np.float32)


def _is_time_throughout(column: pa.ChunkedArray, path: Path) -> bool:
    """Whether every row holds a date or a number that is within _CLOCKS."""
    try:
        times = _times(column, "", path).to_numpy()
    except DataError:
        return False
    return any((times >= first).all() and (times <= last).all() for first, last in _CLOCKS)


def _times_of_text(column: pa.ChunkedArray, what: str, path: Path) -> pa.ChunkedArray:
    """Text that holds numbers, or dates such as 2024-01-31 and 2024-01-31T12:00:00."""
    for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    raise _no_number(column, what, "a number or a date like 2024-01-31 12:00:00", path)


def _no_number(column: pa.ChunkedArray, what: str, expected: str, path: Path) -> DataError:
    """The error for a column of text of which some rows are no number; raises it itself where rows are empty."""
    lost = pc.or_(pc.equal(column, ""), pc.is_in(pc.utf8_lower(column), pa.array(["nan", "null", "none", "nat"])))
    _refuse(pc.fill_null(lost, True), f"{what} is missing (empty or NaN)", _MEND_NUMBERS, path)
    values = column.to_pylist()
    row = next((row for row, value in enumerate(values) if not _is_number(value)), 0)
    return DataError(
        f"'{path}': {what} should be {expected} in every row, but row {row + 1} has '{shortened(values[row])}'. "
        "Convert it, or name another column with --time-column or --rating-column."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(column: pa.ChunkedArray, what: str, path: Path) -> np.ndarray:
    """The column as int64 or float64 (E,), every value finite."""
    if not types.is_integer(column.type):
        try:
            column = column.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if types.is_string(column.type) or types.is_large_string(column.type):
                raise _no_number(column, what, "a number", path) from error
            raise DataError(f"'{path}': {what} should be numbers, but is {column.type}. Convert it.") from error
    lost = pc.is_null(column) if types.is_integer(column.type) else pc.invert(pc.fill_null(pc.is_finite(column), False))
    _refuse(lost, f"{what} is missing (empty, NaN or infinite)", _MEND_NUMBERS, path)
    numbers = column.to_numpy()
    return (
        numbers.astype(np.int64 if (numbers < 2**63).all() else np.float64) if numbers.dtype == np.uint64 else numbers
    )


def _refuse(lost: pa.Array | pa.ChunkedArray, what: str, advice: str, path: Path) -> None:
    count = pc.sum(lost).as_py() or 0
    if count:
        first = pc.index(lost, True).as_py() + 1
        raise DataError(f"'{path}': {what} in {count} of {len(lost)} rows (the first is row {first}). {advice}")


def _refuse_far(numbers: pa.Array, is_far: np.ndarray, what: str, limits: str, path: Path) -> None:
    if is_far.any():
        row = int(np.argmax(is_far))
        raise DataError(
            f"'{path}': {what} should lie within {limits}, but {is_far.sum()} of {len(is_far)} rows do not (the first is row "
            f"{row + 1}, with {numbers[row].as_py():g}). {_MEND_NUMBERS}"
        )
