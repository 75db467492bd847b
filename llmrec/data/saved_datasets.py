"""Folders that `Dataset.save_to_disk` of the package `datasets` writes: Arrow streams and JSON, read without that package.

    FOLDER/state.json           the names of the Arrow files, in their order
    FOLDER/dataset_info.json    the features: what the columns hold, such as the names of labels
    FOLDER/data-*.arrow         Arrow streams
    FOLDER/dataset_dict.json    instead of all these, of a `DatasetDict`: the names of its splits, a folder each

Nothing is unpickled, no file outside the folder is opened, and every value is looked at before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from llmrec.data.columns import listed
from llmrec.data.reading import Choose, reading, shortened
from llmrec.errors import DataError
from llmrec.files import read_json

_AGAIN = "Save it again with dataset.save_to_disk."
# What `datasets` keeps as bytes with a path.
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh", "BioSequence", "BioStructure")
_PICKLED = "arrow.py_extension_type"


def read_saved_dataset(folder: Path, choose: Choose | None = None) -> pa.Table:
    """The chosen columns of a saved dataset, as `read_table` gives those of a file; labels are their names.

    Raises DataError for a folder that is no saved dataset, holds several splits, is not whole, or has columns of media.
    """
    folder = _one_split(folder)
    state = read_json(folder / "state.json", "state of the saved dataset", DataError)
    said = read_json(folder / "dataset_info.json", "description of the saved dataset", DataError)
    parts = [_read_stream(folder / name) for name in _file_names(state, folder)]
    with reading(folder, "one saved dataset", advice=_AGAIN):
        table = pa.concat_tables(parts)
    return chosen_columns(table, said.get("features"), choose, folder)


def chosen_columns(table: pa.Table, features: object, choose: Choose | None, source: Path) -> pa.Table:
    """The chosen columns as plain Arrow ones: labels by their names, tensors as lists.

    features: column -> what it holds, as `datasets` writes it ({"_type": "ClassLabel", "names": [...]}); every value of `table` has
    been validated. Raises DataError for columns named twice, of media, or of pickled types.
    """
    names = table.column_names
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise DataError(f"'{source}' has the column '{shortened(repeated[0])}' more than once. Rename or remove one.")
    features = features if isinstance(features, Mapping) else {}
    wanted = list(choose(names)) if choose else names
    for name in wanted:
        if _is_pickled(table.field(name)):
            raise DataError(
                f"'{source}': the column '{shortened(name)}' has a pickled type, and nothing here is unpickled. Cast it to a plain one."
            )
    with reading(source, "columns of a dataset", advice=_AGAIN):
        # `datasets` writes a thousand rows a piece, and ids are slow to number over thousands of pieces
        table = table.select(wanted).combine_chunks()
    return pa.table({name: _plain(table[name], features.get(name), name, source) for name in wanted})


def _is_pickled(field: pa.Field) -> bool:
    """Whether a column's type, or one inside it, is known to pyarrow by a pickle only (older versions keep such a type unopened)."""
    kind = field.type
    names = {(field.metadata or {}).get(b"ARROW:extension:name", b"").decode("utf-8", "replace")}
    if isinstance(kind, pa.BaseExtensionType):
        names.add(kind.extension_name)
        kind = kind.storage_type
    return _PICKLED in names or any(_is_pickled(kind.field(number)) for number in range(kind.num_fields))


def _one_split(folder: Path) -> Path:
    if (folder / "dataset_dict.json").is_file():
        said = read_json(folder / "dataset_dict.json", "list of splits", DataError).get("splits")
        splits = [name for name in said if _is_plain_name(name)] if isinstance(said, list) else []
        if len(splits) != 1:
            names = f"{len(splits)} splits: {listed(splits)}" if splits else "no splits"
            example = f"'{folder / splits[0][:60]}'" if splits else "a saved dataset"
            raise DataError(f"'{folder}' holds {names}, but one table was expected. Name the one to read: {example}.")
        folder = folder / splits[0]
    if not (folder / "state.json").is_file():
        hint = ""
        if (folder / "data.json").is_file():
            hint = " It is a prepared data folder already, which commands that train and evaluate take."
        raise DataError(
            f"'{folder}' is a folder, but no dataset that dataset.save_to_disk has written (it has no state.json).{hint} "
            "Name a file or a saved dataset."
        )
    return folder


def _file_names(state: dict, folder: Path) -> list[str]:
    entries = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries or []] if isinstance(
        entries, list
    ) else []  # fmt: skip
    if not names or not all(_is_plain_name(name) for name in names) or len(set(names)) < len(names):
        raise DataError(
            f"'{folder / 'state.json'}' should name the dataset's Arrow files in that folder, each once, but names "
            f"{shortened(repr(entries))}. {_AGAIN}"
        )
    if state.get("_indices_data_files"):
        raise DataError(
            f"'{folder}' was saved by an old version of datasets, with its order in files of its own. Load it there, and save it with "
            "version 2.0 or newer."
        )
    return names


def _is_plain_name(name: object) -> bool:
    """Whether it is the name of an entry of a folder: no path out of it, no null character."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _read_stream(path: Path) -> pa.Table:
    with reading(path, "an Arrow stream", advice=_AGAIN):
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
        table.validate(full=True)  # lengths and offsets of a damaged file would lead anywhere
    return table


def _plain(column: pa.ChunkedArray, feature: object, name: str, source: Path) -> pa.ChunkedArray:
    kind = feature.get("_type") if isinstance(feature, Mapping) else None
    if kind in _MEDIA:
        raise DataError(
            f"'{source}': the column '{shortened(name)}' holds data of the kind {kind}, but texts, numbers and names of image files "
            "were expected. Write them to files and their names into that column, or leave it out: dataset.remove_columns."
        )
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    is_list = kind in ("List", "Sequence", "LargeList")
    inner = feature.get("feature") if is_list else feature
    names = inner.get("names") if isinstance(inner, Mapping) and inner.get("_type") == "ClassLabel" else None
    if names is None:
        return column
    if not isinstance(names, list) or not all(isinstance(label, str) for label in names):
        raise DataError(f"'{source}': the labels of the column '{shortened(name)}' have no names. {_AGAIN}")
    with reading(source, f"labels in the column '{shortened(name)}'", advice=_AGAIN):
        return _mapped(column, lambda numbers: _named(numbers, pa.array(names, pa.string())), is_list)


def _mapped(
    column: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array], is_list: bool
) -> pa.ChunkedArray:  # fmt: skip
    """The column with its values, or those in its lists, changed."""
    if not is_list:
        return pa.chunked_array([change(chunk) for chunk in column.chunks], pa.string())
    column = column.cast(pa.list_(column.type.value_type))
    lists = [
        pa.ListArray.from_arrays(chunk.offsets, change(chunk.values), mask=chunk.is_null()) for chunk in column.chunks
    ]
    return pa.chunked_array(lists, pa.list_(pa.string()))


def _named(numbers: pa.Array, names: pa.Array) -> pa.Array:
    """The names of labels: null for null and for -1, which is no label. Raises pyarrow's errors for others without a name."""
    if not types.is_integer(numbers.type):
        raise pa.ArrowTypeError(f"labels are whole numbers, but these are {numbers.type}")
    return names.take(pc.if_else(pc.equal(numbers, -1), None, numbers))
