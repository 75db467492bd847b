"""What commands share when they print and write: JSON for programs, and whether a file could be written at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import typer

from llmrec.errors import LlmrecError


def print_json(value: dict) -> None:
    """One JSON object on standard output; everything else a command says goes to standard error."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def check_writable(path: Path) -> None:
    """Raises LlmrecError where the file `path` could not be written: said before the work, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise LlmrecError(f"cannot write '{path}': {error.strerror or error}. Name another place.") from error
    if path.is_dir():
        raise LlmrecError(f"cannot write '{path}': a folder lies there. Name a file.")
