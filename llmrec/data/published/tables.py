"""Files of published sets: tables and lists, with every error a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.data.formats import read_table
from llmrec.data.reading import open_file, reading, shortened
from llmrec.errors import DataError

_WORDS = {str: "text", int: "a whole number", list: "a list"}


def labels_of(rows: list[dict], path: Path) -> np.ndarray:
    """The column `label` of rows, each 0 or 1, as a number or as text: bool (N,). Raises DataError for anything else."""
    labels = [str(row["label"]) for row in rows]
    odd = set(labels) - {"0", "1"}
    if odd:
        raise DataError(f"'{path}': label should be 0 or 1 in every row, but there is {shortened(min(odd))}.")
    return np.array(labels) == "1"


def rows_of(path: Path, columns: dict[str, type]) -> list[dict]:
    """The rows of a table (jsonl, tsv, ...) with these columns of these Python types. Raises DataError for another table."""
    table = read_table(path)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(
            f"'{path}' should have the columns {', '.join(columns)}, but lacks {', '.join(missing)} (it has: "
            f"{', '.join(table.column_names)}). It is not the file of this set."
        )
    rows = table.select(list(columns)).to_pylist()
    for number, row in enumerate(rows):
        for name, kind in columns.items():
            if not isinstance(row[name], kind):
                raise DataError(
                    f"'{path}': {name} should be {_WORDS[kind]}, but row {number + 1} has {shortened(str(row[name]))}."
                )
    return rows


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, which may be compressed, without what is empty."""
    with reading(path, "a list with one id a line"), open_file(path) as file:
        return [line.strip() for line in file.read().decode("utf-8").split("\n") if line.strip()]
