"""What commands share when they print: texts that are data made harmless for a terminal, and JSON for programs."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from pathlib import Path

import typer

from llmrec.errors import LlmrecError

_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text on one line without what steers a terminal: escape sequences, control characters, turned directions.

    Titles come from strangers' catalogues: one must not colour, erase or reorder what stands around it.
    """
    text = _ESCAPES.sub("", text)
    kept = (" " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or not _steers(c))
    return " ".join("".join(kept).split())


def print_json(value: dict) -> None:
    """One JSON object on standard output; everything else a command says goes to standard error."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _DIRECTIONS


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
