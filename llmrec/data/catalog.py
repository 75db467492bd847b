"""The items: an outside id, a title, text fields and perhaps an image each, backed by Arrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from rapidfuzz import fuzz, process

from llmrec.data.columns import has_no_name
from llmrec.data.formats import read_parquet
from llmrec.data.ids import is_list
from llmrec.data.item_columns import is_text, no_words
from llmrec.data.reading import quoted, reading, shortened
from llmrec.data.text_values import as_column, plain_text
from llmrec.errors import DataError, RequestError
from llmrec.files import content_hash, write_arrow

_PIECE = 65_536  # rows that are Python values at a time


class Catalog:
    """Items 0..num_items-1 and what is known about each.

    `table` has the columns item_id (string, unique, not empty), title (string; missing titles are "" and counted in
    `num_untitled`), then any text or list-of-text columns; a column `image` holds paths relative to the data folder.
    Other kinds of column are turned into text; columns without a name, such as the index that a data frame writes, are left out and
    counted in `num_unnamed`. Raises DataError for a missing column and for null, empty or repeated ids.
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
        named = [name for name in table.column_names if not has_no_name(name)]
        self.num_unnamed = table.num_columns - len(named)
        columns |= {name: _as_text(table[name], name) for name in named if name not in columns}
        # Taking rows from a column in several pieces copies all of it first; ids are taken at every look-up.
        columns["item_id"] = pa.table([columns["item_id"]], ["item_id"]).combine_chunks()["item_id"]
        _check_filled(columns["item_id"])
        # Four bytes per item instead of a dictionary of Python strings, which takes 150.
        self._items_by_id = np.asarray(pc.sort_indices(columns["item_id"])).astype(np.int32)  # (num_items,)
        _check_unique(columns["item_id"], self._items_by_id)
        self.num_untitled = int(pc.sum(pc.equal(pc.fill_null(columns["title"], ""), "")).as_py() or 0)
        columns["title"] = pc.fill_null(columns["title"], "")
        self.table = pa.table(columns)

    @classmethod
    def from_rows(cls, rows: Sequence[dict]) -> Catalog:
        """A catalog from one dict per item; a key that a row lacks is null there."""
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
    def no_words(self) -> dict[str, str]:
        """The columns that hold no words and therefore stay out of texts unless they are named: column -> what it holds."""
        found = {name: no_words(self.table[name]) for name in self.fields if name not in ("title", "image")}
        return {name: what for name, what in found.items() if what}

    @property
    def word_fields(self) -> list[str]:
        """The fields that go into texts by default: all but `image` and those of `no_words`."""
        return [name for name in self.fields if name != "image" and name not in self.no_words]

    @property
    def item_ids(self) -> list[str]:
        """The outside id of every item, as a new list: to read one item's id, `item_id` is the way."""
        return self.table["item_id"].to_pylist()

    @property
    def titles(self) -> list[str]:
        """The title of every item, "" where it has none, as a new list: to read one item's title, `title` is the way."""
        return self.table["title"].to_pylist()

    def item_id(self, item: int) -> str:
        """The outside id of one item."""
        return self.table["item_id"][int(item)].as_py()

    def title(self, item: int) -> str:
        """The title of one item, "" where it has none."""
        return self.table["title"][int(item)].as_py()

    def index(self, item_ids: Sequence[str]) -> np.ndarray:
        """The dense items of outside ids: int32 (len(item_ids),).

        Raises RequestError for an id that is not in the catalog, naming the nearest ones that are.
        """
        if isinstance(item_ids, str):
            raise RequestError(
                f"item ids should come as a list, but one text came: '{item_ids}'. Write ['{item_ids}']."
            )
        items = self._find(item_ids)
        if (items < 0).any():
            unknown = str(item_ids[int(np.argmax(items < 0))])
            nearest = ", ".join(quoted(known) for known in nearest_words(unknown, self.item_ids))
            raise RequestError(
                f"the catalog of {self.num_items} items has no item id {quoted(unknown)}. "
                f"The nearest ids are: {nearest or 'none'}."
            )
        return items

    def contains(self, item_ids: Sequence[str]) -> np.ndarray:
        """Which outside ids the catalog has: bool (len(item_ids),)."""
        return self._find(item_ids) >= 0

    def _find(self, item_ids: Sequence[str]) -> np.ndarray:
        """int32 (len(item_ids),), -1 for an id that is not here: all ids are searched together, by halving."""
        if not self.num_items:
            return np.full(len(item_ids), -1, np.int32)
        # "" is no item's id; a text that is no valid UTF-8 (a lone surrogate) finds nothing rather than failing
        wanted = pa.array([_utf8(item_id) if isinstance(item_id, str) else b"" for item_id in item_ids], pa.binary())
        low, high = np.zeros(len(wanted), np.int32), np.full(len(wanted), self.num_items, np.int32)
        while (low < high).any():
            middle = (low + high) // 2
            less = pc.less(self._sorted_id(middle), wanted).to_numpy(zero_copy_only=False)
            open_ = low < high
            low = np.where(open_ & less, middle + 1, low)
            high = np.where(open_ & ~less, middle, high)
        found = low < self.num_items
        found &= pc.equal(self._sorted_id(low), wanted).to_numpy(zero_copy_only=False)
        items = np.full(len(wanted), -1, np.int32)
        items[found] = self._items_by_id[low[found]]
        return items

    def _sorted_id(self, positions: np.ndarray) -> pa.Array:
        """The ids at positions of their sorted order, binary (len(positions),); positions past the end give the last."""
        return _taken(self.table["item_id"], self._items_by_id[positions.clip(max=self.num_items - 1)]).cast(
            pa.binary()
        )

    def text(self, item: int, field: str) -> str:
        """One field of one item as text: lists joined with ", ", missing values "". DataError for an unknown field."""
        value = self._column(field)[item].as_py()
        return ", ".join(part for part in value if part) if isinstance(value, list) else value or ""

    def values(self, item: int, field: str) -> list[str]:
        """One field of one item as the values in it: those of a list, the one text, none where it is missing. DataError as `text`."""
        value = self._column(field)[item].as_py()
        return [each for each in (value if isinstance(value, list) else [value]) if each]

    def num_longer(self, field: str, limit: int) -> int:
        """How many items have more than `limit` characters in this field. DataError for an unknown field."""
        column = self._column(field)
        if types.is_list(column.type):
            column = pc.binary_join(column, ", ")
        return pc.sum(pc.greater(pc.utf8_length(column), limit)).as_py() or 0

    def texts(self, fields: Sequence[str] | None = None) -> list[str]:
        """One text per item for encoders: "title. field: value. ..." with the fields that it has.

        fields: their order; by default `word_fields`. Raises DataError for an unknown field.
        """
        if fields is None:
            fields = self.word_fields
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
        return content_hash(
            json.dumps(self.table.column_names), *(partial(_json, self.table[name]) for name in self.table.column_names)
        )

    def extend(self, new: Catalog) -> Catalog:
        """This catalog with the items of another after its own; its own columns are kept, what `new` lacks is null there.

        Raises DataError where `new` has ids that are here already.
        """
        known = np.flatnonzero(self.contains(new.item_ids))
        if len(known):
            examples = ", ".join(quoted(new.item_id(item)) for item in known[:3])
            raise DataError(
                f"{len(known)} of {new.num_items} new items are in the catalog of {self.num_items} items already: {examples}. "
                "Remove them from the new items; an item's texts cannot be changed after training."
            )
        columns = {
            field.name: _as_kind(new.table[field.name], field.type)
            if field.name in new.table.column_names
            else pa.nulls(new.num_items, field.type)
            for field in self.table.schema
        }
        return Catalog(pa.concat_tables([self.table, pa.table(columns, schema=self.table.schema)]))

    def save(self, path: str | Path) -> None:
        """Write the catalog as one parquet file."""
        write_arrow(path, self.table)

    @classmethod
    def load(cls, path: str | Path) -> Catalog:
        """Read what `save` wrote, memory-mapped. Raises DataError for a missing, broken or truncated file."""
        path = Path(path)
        with reading(path, "the catalog", advice="Prepare the data again."):
            table = read_parquet(path, memory_map=True)
        catalog = cls(table)
        pa.default_memory_pool().release_unused()  # decompressing leaves as much again with Arrow's allocator
        return catalog


def nearest_words(word: str, known: Sequence[str], limit: int = 3) -> list[str]:
    """The words of `known` most like `word` by edit similarity, best first, at most `limit`."""
    return [match for match, _, _ in process.extract(word[:200], known, scorer=fuzz.ratio, limit=limit)]


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The column as string or list<string>; whole floats lose their ".0", nested values become JSON."""
    # ValueError, OverflowError: dates that no calendar of Python has
    with reading(f"the column '{shortened(name)}' of the items", "texts", ValueError, OverflowError, advice="Mend it."):
        kind = column.type
        if types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if types.is_float16(kind):
            column, kind = column.cast(pa.float32()), pa.float32()
        if is_text(kind) or types.is_integer(kind):
            return column.cast(pa.string())
        if types.is_null(kind):
            return pa.chunked_array([pa.nulls(len(column), pa.string())])
        if is_list(kind) and name in ("item_id", "title", "image"):
            raise DataError(
                f"the column '{name}' of the items should hold one text per item but holds lists ({kind}). "
                "Keep one of each list, or rename the column."
            )
        if is_list(kind) and (is_text(kind.value_type) or types.is_null(kind.value_type)):
            return column.cast(pa.list_(pa.string()))
        values = column.to_pylist()
    if types.is_map(kind):
        values = [None if value is None else dict(value) for value in values]
    if is_list(kind):
        rows = [
            None if value is None else [text for v in value if v is not None and (text := plain_text(v))]
            for value in values
        ]
        return pa.chunked_array([pa.array(rows, pa.list_(pa.string()))])
    # NaN, the one value unequal to itself, is a missing number.
    rows = [None if value is None or value != value else plain_text(value) for value in values]
    if types.is_nested(kind):
        rows = [row or None for row in rows]
    return pa.chunked_array([pa.array(rows, pa.string())])


def _json(column: pa.ChunkedArray) -> Iterator[str]:
    """The column as one JSON list, in pieces: Arrow's own buffers differ with chunks and padding, the values do not."""
    yield "["
    for start in range(0, len(column), _PIECE):
        values = json.dumps(column.slice(start, _PIECE).to_pylist())
        yield (", " if start else "") + values[1:-1]
    yield "]"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _taken(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    taken = column.take(pa.array(rows))
    return taken.chunk(0) if taken.num_chunks == 1 else taken.combine_chunks()


def _as_kind(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """A column of one catalog as another has it: string, or list<string> (a text becomes a list of one)."""
    if column.type.equals(kind):
        return column
    if types.is_list(kind):
        return pa.array([[text] if text else None for text in column.to_pylist()], kind)
    return pa.array([", ".join(filter(None, texts)) if texts else None for texts in column.to_pylist()], kind)


def _check_filled(item_ids: pa.ChunkedArray) -> None:
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(item_ids), ""), True)
    num_empty = pc.sum(empty).as_py() or 0
    if num_empty:
        raise DataError(
            f"every item needs an item_id, but {num_empty} of {len(item_ids)} items have none "
            f"(the first is row {pc.index(empty, True).as_py() + 1}). Fill them in or remove those rows."
        )


def _check_unique(item_ids: pa.ChunkedArray, order: np.ndarray) -> None:
    """order: int32 (num_items,), the items in the order of their ids, in which equal ones are neighbours."""
    in_order = _taken(item_ids, order)
    if not (pc.any(pc.equal(in_order[1:], in_order[:-1])).as_py() or False):
        return
    tally = pc.value_counts(item_ids.combine_chunks())
    repeated = tally.filter(pc.greater(tally.field("counts"), 1))
    examples = ", ".join(f"{quoted(row['values'])} ({row['counts']} times)" for row in repeated[:3].to_pylist())
    raise DataError(
        f"every item_id should stand once in the items, but {len(repeated)} stand more often: {examples}. "
        "Keep one row per item."
    )
