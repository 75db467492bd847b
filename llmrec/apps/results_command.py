"""`llmrec results`: kept results of evaluations as tables for a page or a paper."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.output import check_writable
from llmrec.errors import ConfigError


def results(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files that `eval --out x.json` wrote, or folders of them.")
    ],
    out: Annotated[
        Path, typer.Option(help="A file that ends in .md, a page with sources, or in .tex, tables for \\input.")
    ],
) -> None:
    """Write the tables of kept results: one a protocol, with intervals, cost, and where each number comes from.

    \b
    Example:
      llmrec results eval/reference --out docs/results.md
      llmrec results runs/a/results.json runs/b/results.json --out tables.tex
    """
    from llmrec.evaluation.records import is_results, read_results
    from llmrec.evaluation.results_page import results_files, write_page
    from llmrec.evaluation.tables import SUFFIXES, write_tables

    if out.suffix not in SUFFIXES:
        raise ConfigError(f"tables are written to a file that ends in {' or '.join(SUFFIXES)}, but --out is '{out}'.")
    check_writable(out)
    files = results_files(paths)
    if out.suffix == ".md":
        write_page(out, files, f"llmrec results {shlex.join(map(str, paths))} --out {shlex.quote(str(out))}")
    else:
        write_tables(out, [record for path in files if is_results(path) for record in read_results(path)])
    typer.echo(f"Wrote {out}.", err=True)
