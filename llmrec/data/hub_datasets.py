"""Datasets of the Hugging Face hub as tables, by the package `datasets` (extra `[datasets]`), imported when it is used."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

import pyarrow as pa

from llmrec.data.columns import listed
from llmrec.data.reading import Choose, reading
from llmrec.data.saved_datasets import chosen_columns
from llmrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    import datasets

_PREFIX = "hf:"
# The readers of `datasets` for tables. Others (archives, media) decode whatever a stranger put there.
_TABLES = ("arrow", "csv", "json", "parquet")


class HubDataset(NamedTuple):
    """What `hf:owner/name?config=NAME&split=NAME` asks for; config and split are None where nothing is said."""

    name: str
    config: str | None
    split: str | None


def is_hub_dataset(source: str | Path) -> bool:
    """Whether it is written hf:..., and so names no file."""
    return str(source).startswith(_PREFIX)


def parse_hub_dataset(source: str | Path) -> HubDataset:
    """Raises DataError for what is not written as hf:owner/name?config=NAME&split=NAME."""
    name, _, query = str(source).removeprefix(_PREFIX).partition("?")
    asked = parse_qsl(query, keep_blank_values=True)
    keys = [key for key, _ in asked]
    if (
        not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)
        or set(keys) - {"config", "split"}
        or len(set(keys)) < len(keys)
        or not all(value for _, value in asked)
        or bool(query) != bool(asked)
    ):
        raise DataError(
            f"a dataset of the hub is written hf:owner/name?config=NAME&split=NAME (config and split may be left out), but "
            f"this came: '{str(source)[:200]}'."
        )
    return HubDataset(name, dict(asked).get("config"), dict(asked).get("split"))


def read_hub_dataset(source: str | Path, choose: Choose | None = None) -> pa.Table:
    """The chosen columns of one split of a hub dataset, downloaded once and kept by `datasets` in its cache.

    Only csv, JSON, parquet and Arrow are read; nothing that lies in a repository is executed. As `datasets.load_dataset` has it, a
    folder of that name below the working folder comes first. Raises DataError for a dataset that is not there or cannot be
    read, for one with several splits where none is named, and where the hub cannot be reached; ConfigError without `datasets`.
    """
    asked, library = parse_hub_dataset(source), datasets_library()
    # whatever a library raises on what a stranger uploaded, or on a network: Exception
    with reading(f"'{source}'", "a dataset of the hub", Exception, advice="Check the name and the network."):
        reader = type(library.load_dataset_builder(asked.name, asked.config)).__module__
        splits = library.get_dataset_split_names(asked.name, asked.config)
    if not any(f"packaged_modules.{kind}." in f"{reader}." for kind in _TABLES):
        raise DataError(
            f"'{source}' is no table of csv, JSON, parquet or Arrow. Make one of it with datasets, save_to_disk it and name the folder."
        )
    if asked.split is None and len(splits) != 1:
        example = f"{source}{'&' if asked.config else '?'}split={splits[0] if splits else 'NAME'}"
        raise DataError(f"'{source}' has {len(splits)} splits: {listed(splits)}. Name the one to read: '{example}'.")
    if asked.split is not None and asked.split not in splits:
        raise DataError(f"'{source}': the dataset has no split '{asked.split}' (it has: {listed(splits)}).")
    with reading(f"'{source}'", "a dataset of the hub", Exception, advice="Check the name and the network."):
        dataset = library.load_dataset(asked.name, asked.config, split=asked.split or splits[0])
    return dataset_table(dataset, choose, source)


def dataset_table(dataset: datasets.Dataset, choose: Choose | None, source: str | Path) -> pa.Table:
    """The chosen columns of a `datasets.Dataset` in its own order, as Arrow and not row by row."""
    with reading(f"'{source}'", "a table", advice="Load the dataset again."):
        table = dataset.with_format("arrow")[:]
        table.validate(full=True)
    return chosen_columns(table, dataset.features.to_dict(), choose, Path(source))


def datasets_library() -> ModuleType:
    """The package `datasets`. Raises ConfigError where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "this needs the package datasets, which is not installed: pip install 'llmrec[datasets]'."
        ) from error
    # Eleven lines about tries to reach a hub that cannot be reached; the last one's error is our sentence.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return datasets
