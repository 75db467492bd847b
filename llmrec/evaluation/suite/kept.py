"""A finished cell on disk, with all that a paired test needs: CELLS/NAME/result.json and what `save_results` puts beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrec.errors import DataError
from llmrec.evaluation.results import Result
from llmrec.evaluation.saved import load_results, save_results
from llmrec.files import atomic_folder, put_back, read_json

RESULT = "result.json"


def save_cell(folder: Path, result: Result, facts: dict[str, Any]) -> None:
    """Writes the cell, whole or not at all. facts: JSON values; `digest` among them says what was measured."""
    with atomic_folder(folder, known_by=RESULT) as temporary:
        save_results(temporary / RESULT, {"evaluations": [result.to_json()], "facts": facts}, [result])


def is_kept(folder: Path) -> bool:
    """Whether the cell is finished."""
    return (put_back(folder) / RESULT).is_file()


def facts_of(folder: Path) -> dict[str, Any]:
    """What `save_cell` was told. Raises DataError where the file is broken."""
    facts = read_json(folder / RESULT, "result of a cell", DataError).get("facts")
    if not isinstance(facts, dict) or not {"digest", "cpu_minutes"} <= facts.keys():
        raise DataError(f"'{folder / RESULT}' is no cell of a suite; delete '{folder}', and it is measured again.")
    return facts


def load_cell(folder: Path) -> Result:
    """The result. Raises DataError where a file of it is broken."""
    return load_results(folder / RESULT)[0]
