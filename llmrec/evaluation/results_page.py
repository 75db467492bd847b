"""A page of results kept as JSON: one table a protocol, by data set, each with the command, commit, seed, machine and date of its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmrec.errors import DataError
from llmrec.evaluation.records import Record, groups_of, is_results, read_results
from llmrec.evaluation.tables import Cell, Table, escaped_markdown, markdown_rows, table_of
from llmrec.files import read_json, write_text

_SAID = ("command", "training", "commit", "seed", "machine", "date")


@dataclass(frozen=True, eq=False)
class _Sourced:
    """A record and the files that it stands in."""

    record: Record
    sources: tuple[Path, ...]


def results_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the .json files in the folders among them, by name. Raises DataError for a path that is neither, and
    where there is no file of results."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no '{path}'. Name files that `llmrec eval --out x.json` wrote, or folders of them.")
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not any(map(is_results, files)):
        raise DataError(f"no file of results is in {', '.join(map(str, paths))}. `llmrec eval RUN --out x.json` writes one.")
    return files


def write_page(out: Path, files: Sequence[Path], command: str) -> None:
    """Writes the page, whole or not at all. command: what makes it. Files that hold something else are named at the end."""
    sections = []
    kept = [(path, read_results(path)) for path in files if is_results(path)]
    everything = _merged([(record, path) for path, records in kept for record in records])
    named = list(dict.fromkeys(each.record.protocol["data"]["name"] or "unnamed data" for each in everything))
    for name in named:
        own = [each for each in everything if (each.record.protocol["data"]["name"] or "unnamed data") == name]
        sections.append(f"## {escaped_markdown(name)}")
        sections += [_table(group, own, out, files) for group in groups_of([each.record for each in own])]
    sections.append("## Where these numbers come from\n\n" + "\n".join(_source(path, out, files) for path, _ in kept))
    if others := [path for path in files if not is_results(path)]:
        links = ", ".join(f"[{path.name}]({_link(path, out)})" for path in others)
        sections.append(f"Other references, which have tables of their own where they are described: {links}.")
    write_text(out, "\n\n".join([_HEAD.format(command=command), *sections]) + "\n")


_HEAD = """# Results

Made by `{command}`: edit the JSON files, never this page. Two protocols never stand in one table, nor do full ranking and sampled
candidates. The rules are in [Benchmarks and protocols](benchmarks.md), what the columns mean in [Evaluation](evaluation.md)."""


def _merged(found: Sequence[tuple[Record, Path]]) -> list[_Sourced]:
    """A baseline that several files hold with the same numbers is one row."""
    merged: list[_Sourced] = []
    for record, path in found:
        for place, other in enumerate(merged):
            same = (record.name, record.protocol, record.metrics)
            if same == (other.record.name, other.record.protocol, other.record.metrics):
                merged[place] = replace(other, sources=(*other.sources, path))
                break
        else:
            merged.append(_Sourced(record, (path,)))
    return merged


def _table(group: Sequence[Record], own: Sequence[_Sourced], out: Path, files: Sequence[Path]) -> str:
    table = table_of(group)
    sources = {id(each.record): each.sources for each in own}
    rows = [
        (name, [*cells, Cell(", ".join(f"[{files.index(path) + 1}]({_link(path, out)})" for path in sources[id(record)]))])
        for record, (name, cells) in zip(group, table.rows, strict=True)
    ]
    shown = Table(table.caption, [*table.columns, "file"], rows, table.notes)
    return f"{escaped_markdown(table.caption)}\n\n{markdown_rows(shown)}\n\n{' '.join(table.notes)}"


def _source(path: Path, out: Path, files: Sequence[Path]) -> str:
    facts = read_json(path).get("facts", {})
    said = [f"{key} `{str(facts[key])[:10]}`" if key == "commit" else f"{key} `{facts[key]}`" for key in _SAID if key in facts]
    return f"- {files.index(path) + 1}: [{path.name}]({_link(path, out)}): {', '.join(said)}"


def _link(path: Path, out: Path) -> str:
    return os.path.relpath(path, out.parent)
