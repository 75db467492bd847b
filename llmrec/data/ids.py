"""Outside ids of users and items: what may be one, in whatever type a file has it, and lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from llmrec.data.reading import reading
from llmrec.errors import DataError

# A lost user or item that a data frame wrote into a text file; "" is lost in any case.
LOST = ("nan", "NaN", "<NA>")


def ids_of(column: pa.ChunkedArray, what: str, path: Path) -> pa.DictionaryArray:
    """The column as one array of dictionary<int32, string>, in the file's order.

    Raises DataError for what is neither text nor numbers, and where an id is lost.
    """
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_nested(kind):
        raise DataError(
            f"'{path}': {what} should be text or a whole number in every row, but they are {kind}. Write the value itself."
        )
    with reading(path, f"a table with text or whole numbers as {what}", advice="Convert that column to text."):
        if not types.is_dictionary(column.type):
            if not (types.is_integer(kind) or types.is_floating(kind)):
                column = column.cast(pa.string())
            elif types.is_float16(kind):
                column = column.cast(pa.float32())
            column = column.dictionary_encode()
        codes = column.unify_dictionaries().combine_chunks()
        codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
        values = _as_text(codes.dictionary)
        codes.indices.validate(full=True)
    lost_values = pc.or_(pc.equal(pc.utf8_trim_whitespace(values), ""), pc.is_in(values, pa.array(LOST)))
    lost = pc.fill_null(pc.take(pc.fill_null(lost_values, True), codes.indices), True)
    refuse_lost(lost, what, path)
    return pa.DictionaryArray.from_arrays(codes.indices.cast(pa.int32()), values)


def _as_text(values: pa.Array) -> pa.Array:
    if types.is_float16(values.type):
        values = values.cast(pa.float32())
    if types.is_floating(values.type):  # whole numbers, which a data frame made floats to hold a NaN
        # Beyond 2^53 a float is no exact number, and an integer would pretend one.
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), 2.0**53))
        as_whole = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        return pc.if_else(pc.fill_null(whole, False), as_whole, values.cast(pa.string()))
    return values.cast(pa.string())


def refuse_lost(lost: pa.Array | pa.ChunkedArray, what: str, path: Path) -> None:
    """Raises DataError that counts the true ones and names the first row."""
    count = pc.sum(lost).as_py() or 0
    if count:
        first = pc.index(lost, True).as_py() + 1
        raise DataError(
            f"'{path}': {what} is missing (empty or NaN) in {count} of {len(lost)} rows (the first is row {first}). "
            "Fill it in or remove those rows."
        )


def one_row_an_event(table: pa.Table, items: str, wanted: Sequence[str], path: Path) -> pa.Table:
    """A table with a list of items in each row as one with a row for each of them, in the lists' order.

    items: the name of the column of item ids. Other wanted lists (times, ratings) go along, single values are repeated, lists that
    nobody wants are left out. Raises DataError where an item list is null, or a wanted one has another length.
    """
    column = table[items]
    if not is_list(column.type):
        return table
    refuse_lost(column.is_null(), items, path)
    lengths = _lengths(column)
    parents = np.repeat(np.arange(table.num_rows), lengths)
    exploded = {}
    for name in table.column_names:
        values = table[name]
        if is_list(values.type) and name not in wanted:
            continue
        if not is_list(values.type):
            exploded[name] = values.take(pa.array(parents))
            continue
        different = _lengths(values) != lengths
        if different.any():
            row = int(np.argmax(different))
            raise DataError(
                f"'{path}': the lists in {name} should be as long as those in {items}, but in row {row + 1} they have "
                f"{_lengths(values)[row]} and {lengths[row]} entries. Mend that row, or remove the column {name}."
            )
        exploded[name] = pc.list_flatten(values)
    return pa.table(exploded)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists of any length."""
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    """int64 (rows,), 0 for null."""
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
