"""What commands share when they print and write: JSON for programs, and whether a file could be written at all."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from llmrec.errors import LlmrecError
from llmrec.terminal import printable


def print_json(value: dict) -> None:
    """One JSON object on standard output; everything else a command says goes to standard error."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: columns apart from each other, words whole, as wide as the terminal; piped, each row on one line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(header):
        is_last = place == len(header) - 1
        table.add_column(name, no_wrap=not is_terminal or place == 0, overflow="fold" if is_last else "ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: a bracket is a bracket
    console = Console(file=sys.stdout, width=None if is_terminal else 10_000)
    with console.capture() as sampled:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in sampled.get().splitlines()))


def check_writable(path: Path) -> None:
    """Raises LlmrecError where the file `path` could not be written: said before the work, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise LlmrecError(f"cannot write '{path}': {error.strerror or error}. Name another path.") from error
    if path.is_dir():
        raise LlmrecError(f"cannot write '{path}': a folder lies there. Name a file.")
