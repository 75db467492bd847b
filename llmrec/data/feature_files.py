"""A user's own matrix of item features, out of a file: .npy, .safetensors, or a table with a column item_id.

N items of the catalogue, M rows of a file, D width.
"""

from __future__ import annotations

import tokenize
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from safetensors import SafetensorError
from safetensors.numpy import load_file

from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.columns import has_no_name, listed
from llmrec.data.features import Features
from llmrec.data.formats import KINDS, read_table
from llmrec.data.ids import ids_of, is_list
from llmrec.data.reading import quoted, reading, shortened
from llmrec.errors import DataError

ARRAYS = (".npy", ".safetensors")


def read_features(name: str, path: Path, catalog: Catalog) -> Features:
    """The matrix in a file as the features `name` of the catalogue's items.

    .npy: numbers (N, D), one row per item in the catalogue's order. .safetensors: the same as the file's only tensor, or what
    `Features.save` writes ("vectors" and "present"). Tables (csv, parquet, jsonl, ...): a column item_id in any order, and the numbers:
    one column of lists, or a column for each of the D; items that the table leaves out are absent.
    Raises DataError for a file that cannot be read, another number of rows, NaN or infinity, what is no number, and for ids that are
    unknown or there twice.
    """
    with reading(path, f"the features '{name}'"):
        path.open("rb").close()
    features = Features(catalog.num_items)
    if path.suffix.lower() in ARRAYS:
        vectors, present = (read_npy(path), None) if path.suffix.lower() == ".npy" else _from_safetensors(path)
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


def read_npy(path: Path) -> np.ndarray:
    """The numbers in an .npy file, of whatever shape. Raises DataError for a file that is none."""
    # SyntaxError, TypeError, KeyError, IndexError, AttributeError, TokenError: a header that is no description of an array
    broken = (
        ValueError,
        SyntaxError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        tokenize.TokenError,
    )
    zipped = (zipfile.BadZipFile, RuntimeError, NotImplementedError)  # an .npz under another name
    advice = "Save it with numpy.save, as numbers and not as Python objects."
    with reading(path, "an .npy file of numbers", *broken, *zipped, advice=advice), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a header that Python 2 wrote
        array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):  # an .npz under another name
        array.close()
        raise DataError(f"'{path}' holds several arrays, but one was expected. Save it with numpy.save.")
    return array


def _from_safetensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    # TypeError, KeyError, AttributeError: bfloat16 and the like; the others: shapes that no array has
    broken = (SafetensorError, TypeError, KeyError, AttributeError, ValueError, OverflowError)
    with reading(path, "a whole .safetensors file that numpy can read", *broken, advice="Save it again, as float32."):
        tensors = load_file(path)
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
    table = table.select([name for name in table.column_names if not has_no_name(name)])  # the index of a data frame
    if "item_id" not in table.column_names or table.num_columns < 2:
        raise DataError(
            f"'{path}' needs a column item_id and the numbers next to it, but has: {listed(table.column_names)}. Rename or add columns."
        )
    if not table.num_rows:
        raise DataError(f"'{path}' has a header but no rows. Expected one row per item.")
    item_ids = ids_of(table["item_id"], "item_id", path).cast(pa.string()).to_pylist()
    known = catalog.contains(item_ids)
    if not known.all():
        unknown = item_ids[int(np.argmin(known))]
        nearest = nearest_words(unknown, catalog.item_ids, 1)
        raise DataError(
            f"'{path}' has {(~known).sum()} ids that are not in the catalog (the first is {quoted(unknown)}; the nearest known: "
            f"{quoted(nearest[0])}). Remove those rows, or take the file that belongs to this catalog."
        )
    items = catalog.index(item_ids)
    if len(np.unique(items)) < len(items):
        is_repeated = np.bincount(items, minlength=catalog.num_items) > 1
        first = quoted(catalog.item_id(int(np.argmax(is_repeated))))
        raise DataError(
            f"'{path}' has {is_repeated.sum()} ids more than once (the first is {first}). Keep one row per item."
        )
    rows = _numbers(table.drop_columns(["item_id"]), path)  # (M, D)
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise DataError(
            f"'{path}' has empty, NaN or infinite values in {broken.sum()} rows (the first is item "
            f"{quoted(item_ids[int(np.argmax(broken))])}). Fill them in, or leave those items out: they are then absent."
        )
    vectors, present = np.zeros((catalog.num_items, rows.shape[1]), np.float64), np.zeros(catalog.num_items, bool)
    vectors[items], present[items] = rows, True
    return vectors, present


def _numbers(table: pa.Table, path: Path) -> np.ndarray:
    """The columns as float64 (M, D), NaN where a value is empty."""
    lists = [name for name in table.column_names if is_list(table[name].type)]
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


def _as_floats(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    if types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    numbers = f"a table of numbers in the column '{shortened(name)}'"
    with reading(path, numbers, ValueError, advice="Remove or convert that column."):
        if types.is_float16(column.type):
            column = column.cast(pa.float32())
        return column.cast(pa.float64()).to_numpy()
