"""A user's own matrix of item features, out of a file: .npy, .safetensors, or a table with a column item_id.

N items of the catalogue, M rows of a file, D width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from safetensors import SafetensorError
from safetensors.numpy import load_file

from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.columns import listed
from llmrec.data.features import Features
from llmrec.data.formats import KINDS, read_table, shortened
from llmrec.errors import DataError

ARRAYS = (".npy", ".safetensors")


def read_features(name: str, path: Path, catalog: Catalog) -> Features:
    """The matrix in a file as the features `name` of the catalogue's items.

    .npy: numbers (N, D), one row an item in the catalogue's order. .safetensors: the same as the file's only tensor, or what
    `Features.save` writes ("vectors" and "present"). Tables (csv, parquet, jsonl, ...): a column item_id in any order, and the numbers:
    one column of lists, or a column for each of the D; items that the table leaves out are absent.
    Raises DataError for a file that cannot be read, another number of rows, NaN or infinity, what is no number, and for ids that are
    unknown or there twice.
    """
    if not path.is_file():
        raise DataError(f"there is no file '{path}' to read the features '{name}' from. Check the path.")
    features = Features(catalog.num_items)
    if path.suffix.lower() in ARRAYS:
        vectors, present = _from_npy(path) if path.suffix.lower() == ".npy" else _from_safetensors(path)
    else:
        kind = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
        if kind not in KINDS:
            raise DataError(
                f"'{path}' should end in one of {', '.join([*ARRAYS, *KINDS])}, so that its format is known."
            )
        vectors, present = _from_table(path, catalog)
    if vectors.dtype.kind not in "fiub":
        raise DataError(f"'{path}' should hold numbers, but it holds {vectors.dtype}. Convert them.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and `add` refuses that
        features.add(name, vectors.astype(np.float32), present)
    if not features.present[name].any():
        raise DataError(f"'{path}' has no features of any of the {catalog.num_items} items.")
    return features


def _from_npy(path: Path) -> tuple[np.ndarray, None]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = "it holds Python objects" if "pickle" in str(error) else shortened(str(error), 200).rstrip(".")
        raise DataError(f"'{path}' is no readable .npy file of numbers ({reason}). Save it with numpy.save.") from error
    if not isinstance(array, np.ndarray):  # an .npz under another name
        raise DataError(f"'{path}' holds several arrays, but one was expected. Save it with numpy.save.")
    return array, None


def _from_safetensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        tensors = load_file(path)
    except (
        OSError,
        SafetensorError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:  # the last three: bfloat16 and the like
        raise DataError(
            f"'{path}' is no whole .safetensors file that numpy can read ({shortened(str(error), 200)}). Save it again, as float32."
        ) from error
    if set(tensors) == {"vectors", "present"}:
        return tensors["vectors"], tensors["present"]
    if len(tensors) != 1:
        raise DataError(
            f"'{path}' should hold one tensor, or 'vectors' and 'present', but holds: {', '.join(sorted(tensors)) or 'none'}."
        )
    return next(iter(tensors.values())), None


def _from_table(path: Path, catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, D), zero where absent, and which items have a row."""
    table = read_table(path)
    if "item_id" not in table.column_names or table.num_columns < 2:
        raise DataError(
            f"'{path}' needs a column item_id and the numbers beside it, but has: {listed(table.column_names)}. Rename or add columns."
        )
    if not table.num_rows:
        raise DataError(f"'{path}' has a header but no rows. Expected one row an item.")
    item_ids = _item_ids(table["item_id"], path)
    known = catalog.contains(item_ids)
    if not known.all():
        unknown = item_ids[int(np.argmin(known))]
        nearest = nearest_words(unknown, catalog.item_ids, 1)
        raise DataError(
            f"'{path}' has {(~known).sum()} ids that are not in the catalog (the first is '{shortened(unknown)}'; the nearest known: "
            f"'{shortened(nearest[0])}'). Remove those rows, or take the file that belongs to this catalog."
        )
    items = catalog.index(item_ids)
    if len(np.unique(items)) < len(items):
        counts = np.bincount(items, minlength=catalog.num_items)
        raise DataError(
            f"'{path}' has {(counts > 1).sum()} ids more than once (the first is '{catalog.item_id(int(np.argmax(counts > 1)))}'). "
            "Keep one row an item."
        )
    rows = _numbers(table.drop_columns(["item_id"]), path)  # (M, D)
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise DataError(
            f"'{path}' has empty, NaN or infinite values in {broken.sum()} rows (the first is item "
            f"'{item_ids[int(np.argmax(broken))]}'). Fill them in, or leave those items out: they are then absent."
        )
    vectors, present = np.zeros((catalog.num_items, rows.shape[1]), np.float64), np.zeros(catalog.num_items, bool)
    vectors[items], present[items] = rows, True
    return vectors, present


def _item_ids(column: pa.ChunkedArray, path: Path) -> list[str]:
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if column.null_count or not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
        what = f"{column.null_count} of them empty" if column.null_count else f"they are {column.type}"
        raise DataError(f"'{path}': item_id should be text or a whole number in every row, but {what}.")
    return column.cast(kind).cast(pa.string()).to_pylist()


def _numbers(table: pa.Table, path: Path) -> np.ndarray:
    """The columns as float64 (M, D), NaN where a value is empty."""
    lists = [name for name in table.column_names if _is_list(table[name].type)]
    if lists and table.num_columns > 1:
        raise DataError(
            f"'{path}' should have the numbers in one column of lists, or in a column each, but has both: {listed(table.column_names)}."
        )
    if lists:
        column = table[lists[0]]
        lengths = np.unique(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False))
        if len(lengths) != 1 or not lengths[0]:
            raise DataError(
                f"'{path}': every list in '{lists[0]}' should have the same number of numbers, but they have from "
                f"{lengths.min()} to {lengths.max()}."
            )
        return _as_floats(pc.list_flatten(column), lists[0], path).reshape(len(column), int(lengths[0]))
    return np.stack([_as_floats(table[name], name, path) for name in table.column_names], axis=1)


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _as_floats(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    if types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    try:
        return column.cast(pa.float64()).to_numpy()
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"'{path}': the column '{shortened(name)}' should hold numbers ({shortened(str(error), 120)}). Remove or convert it."
        ) from error
