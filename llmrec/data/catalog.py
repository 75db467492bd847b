"""The items: an outside id, a title, text fields and perhaps a picture each, backed by Arrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types
from rapidfuzz import fuzz, process

from llmrec.data.formats import as_column, plain_text, shortened
from llmrec.errors import DataError, RequestError
from llmrec.files import content_hash, write_arrow


class Catalog:
    """Items 0..num_items-1 and what is known about each.

    `table` has the columns item_id (string, unique, not empty), title (string; missing titles are "" and counted in
    `num_untitled`), then any text or list-of-text columns; a column `image` holds paths relative to the data folder.
    Other kinds of column are turned into text. Raises DataError for a missing column and for null, empty or repeated ids.
    """

    def __init__(self, table: pa.Table) -> None:
        for name in ("item_id", "title"):
            if name not in table.column_names:
                raise DataError(
                    f"the items need a column '{name}' but have only: {', '.join(table.column_names) or 'none'}. Add it."
                )
        if len(set(table.column_names)) < table.num_columns:
            raise DataError(f"the items should have each column once, but have: {', '.join(table.column_names)}.")
        columns = {name: _as_text(table[name], name) for name in ("item_id", "title")}
        columns |= {name: _as_text(table[name], name) for name in table.column_names if name not in columns}
        _check_item_ids(columns["item_id"])
        self.num_untitled = int(pc.sum(pc.equal(pc.fill_null(columns["title"], ""), "")).as_py() or 0)
        columns["title"] = pc.fill_null(columns["title"], "")
        self.table = pa.table(columns)

    @classmethod
    def from_rows(cls, rows: Sequence[dict]) -> Catalog:
        """A catalog from one dict an item; a key that a row lacks is null there."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls(pa.table({name: as_column([row.get(name) for row in rows]) for name in names}))

    @property
    def num_items(self) -> int:
        """Rows of the table."""
        return self.table.num_rows

    @property
    def fields(self) -> list[str]:
        """The columns other than item_id, the title first."""
        return self.table.column_names[1:]

    @cached_property
    def item_ids(self) -> list[str]:
        """The outside id of every item."""
        return self.table["item_id"].to_pylist()

    @cached_property
    def titles(self) -> list[str]:
        """The title of every item, "" where it has none."""
        return self.table["title"].to_pylist()

    @cached_property
    def _item_of_id(self) -> dict[str, int]:
        return {item_id: item for item, item_id in enumerate(self.item_ids)}

    def index(self, item_ids: Sequence[str]) -> np.ndarray:
        """The dense items of outside ids: int32 (len(item_ids),).

        Raises RequestError for an id that is not in the catalog, naming the nearest ones that are.
        """
        if isinstance(item_ids, str):
            raise RequestError(
                f"item ids should come as a list, but one text came: '{item_ids}'. Write ['{item_ids}']."
            )
        items = np.empty(len(item_ids), np.int32)
        for position, item_id in enumerate(item_ids):
            item = self._item_of_id.get(item_id)
            if item is None:
                nearest = ", ".join(f"'{known}'" for known in nearest_words(str(item_id), self.item_ids))
                raise RequestError(
                    f"the catalog of {self.num_items} items has no item id '{shortened(str(item_id))}'. "
                    f"The nearest ids are: {nearest or 'none'}."
                )
            items[position] = item
        return items

    def text(self, item: int, field: str) -> str:
        """One field of one item as text: lists joined with ", ", missing values "". DataError for an unknown field."""
        value = self._column(field)[item].as_py()
        return ", ".join(part for part in value if part) if isinstance(value, list) else value or ""

    def texts(self, fields: Sequence[str] | None = None) -> list[str]:
        """One text an item for encoders: "title. field: value. ..." with the fields that it has.

        fields: their order; by default all but `image`. Raises DataError for an unknown field.
        """
        if fields is None:
            fields = [field for field in self.fields if field != "image"]
        columns = [self._column(field).to_pylist() for field in fields]
        texts = []
        for values in zip(*columns, strict=True):
            parts = []
            for field, value in zip(fields, values, strict=True):
                words = ", ".join(part for part in value if part) if isinstance(value, list) else value
                if words:
                    parts.append(words if field == "title" else f"{field}: {words}")
            texts.append(". ".join(parts))
        return texts if columns else [""] * self.num_items

    def _column(self, field: str) -> pa.ChunkedArray:
        if field not in self.table.column_names:
            raise DataError(
                f"the catalog has no column '{field}' (it has: {', '.join(self.table.column_names)}). "
                "Add the column or choose another one."
            )
        return self.table[field]

    @cached_property
    def content_hash(self) -> str:
        """16 hexadecimal characters that depend on every column's name and values."""
        # As JSON, because Arrow's own buffers differ with chunks, offsets and padding while the values are the same.
        parts = (json.dumps(self.table[name].to_pylist()) for name in self.table.column_names)
        return content_hash(json.dumps(self.table.column_names), *parts)

    def save(self, path: str | Path) -> None:
        """Write the catalog as one parquet file."""
        write_arrow(path, self.table)

    @classmethod
    def load(cls, path: str | Path) -> Catalog:
        """Read what `save` wrote, memory-mapped. Raises DataError for a missing, broken or truncated file."""
        try:
            return cls(pq.read_table(path, memory_map=True))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read the catalog '{path}': {error}. Prepare the data again.") from error


def nearest_words(word: str, known: Sequence[str], limit: int = 3) -> list[str]:
    """The words of `known` most like `word` by edit similarity, best first, at most `limit`."""
    return [match for match, _, _ in process.extract(word[:200], known, scorer=fuzz.ratio, limit=limit)]


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The column as string or list<string>; whole floats lose their ".0", nested values become JSON."""
    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if _is_text(kind) or types.is_integer(kind):
        return column.cast(pa.string())
    if types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    is_list = types.is_list(kind) or types.is_large_list(kind)
    if is_list and name in ("item_id", "title", "image"):
        raise DataError(
            f"the column '{name}' of the items should hold one text an item but holds lists ({kind}). "
            "Keep one of each list, or rename the column."
        )
    if is_list and (_is_text(kind.value_type) or types.is_null(kind.value_type)):
        return column.cast(pa.list_(pa.string()))
    if is_list:
        rows = [None if row is None else [plain_text(v) for v in row if v is not None] for row in column.to_pylist()]
        return pa.chunked_array([pa.array(rows, pa.list_(pa.string()))])
    # NaN, the one value unequal to itself, is a missing number.
    rows = [None if value is None or value != value else plain_text(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(rows, pa.string())])


def _check_item_ids(item_ids: pa.ChunkedArray) -> None:
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(item_ids), ""), True)
    num_empty = pc.sum(empty).as_py() or 0
    if num_empty:
        raise DataError(
            f"every item needs an item_id, but {num_empty} of {len(item_ids)} items have none "
            f"(the first is row {pc.index(empty, True).as_py() + 1}). Fill them in or remove those rows."
        )
    tally = pc.value_counts(item_ids.combine_chunks())
    repeated = tally.filter(pc.greater(tally.field("counts"), 1))
    if len(repeated):
        examples = ", ".join(
            f"'{shortened(row['values'])}' ({row['counts']} times)" for row in repeated[:3].to_pylist()
        )
        raise DataError(
            f"every item_id should stand once in the items, but {len(repeated)} stand more often: {examples}. "
            "Keep one row an item."
        )
