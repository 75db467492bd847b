"""A page of results kept as JSON: one table a protocol, by data set, with command, commit, seed, machine and date of every file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmrec.errors import DataError
from llmrec.evaluation.records import Record, asked_in_words, flat, groups_of, is_results, protocol_of, read_results
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
            raise DataError(
                f"there is no '{path}'. Name files that `llmrec eval --out x.json` wrote, or folders of them."
            )
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not any(map(is_results, files)):
        raise DataError(
            f"no file of results is in {', '.join(map(str, paths))}. `llmrec eval RUN --out x.json` writes one."
        )
    return files


def write_page(out: Path, files: Sequence[Path], command: str) -> None:
    """Writes the page, whole or not at all. command: what makes it. Files that hold something else are named at the end."""
    kept = [path for path in files if is_results(path)]
    everything = _merged([(record, path) for path in kept for record in read_results(path)])
    sections = []
    for name in dict.fromkeys(map(_data_of, everything)):
        sections.append(f"## {escaped_markdown(name)}")
        before: dict[str, Record] = {}
        for group in groups_of([each.record for each in everything if _data_of(each) == name]):
            caption = asked_in_words(group[0])
            sections.append(
                _table(group, before.get(caption), [each for each in everything if each.record in group], out, kept)
            )
            before.setdefault(caption, group[0])
    sections.append("## Where these numbers come from\n\n" + "\n".join(_source(path, out, kept) for path in kept))
    if others := [path for path in files if path not in kept]:
        links = ", ".join(f"[{path.name}]({_link(path, out)})" for path in others)
        sections.append(f"Other references, which have tables of their own where they are described: {links}.")
    write_text(out, "\n\n".join([_HEAD.format(command=command), *sections]) + "\n")


_HEAD = """# Results

Made by `{command}`: edit the JSON files, never this page. Two protocols never stand in one table, nor do
full ranking and sampled candidates. The rules are in [Benchmarks and protocols](benchmarks.md), what the columns mean in
[Evaluation](evaluation.md)."""


def _data_of(each: _Sourced) -> str:
    return each.record.protocol["data"]["name"] or "unnamed data"


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


def _table(
    group: Sequence[Record], alike: Record | None, own: Sequence[_Sourced], out: Path, kept: Sequence[Path]
) -> str:
    """alike: of a table above whose protocol reads the same and is another; what differs is named."""
    table = table_of(group)
    sources = [next(each.sources for each in own if each.record is record) for record in group]
    rows = [
        (name, [*cells, Cell(", ".join(f"[{kept.index(path) + 1}]({_link(path, out)})" for path in paths))])
        for paths, (name, cells) in zip(sources, table.rows, strict=True)
    ]
    notes = [*table.notes]
    if alike is not None:
        notes.append(
            f"Another protocol than the table above that reads like it: they differ in {_differing(alike, group[0])}."
        )
    shown = Table(table.caption, [*table.columns, "file"], rows)
    return f"{escaped_markdown(table.caption)}\n\n{markdown_rows(shown)}\n\n{' '.join(notes)}"


def _differing(first: Record, second: Record) -> str:
    """The names of what differs, at most four."""
    ours, theirs = (dict(flat(protocol_of(each))) for each in (first, second))
    names = [key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)]
    return ", ".join(f"`{name}`" for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _source(path: Path, out: Path, kept: Sequence[Path]) -> str:
    facts = read_json(path).get("facts", {})
    said = [
        f"{key} `{str(facts[key])[:10]}`" if key == "commit" else f"{key} `{facts[key]}`"
        for key in _SAID
        if facts.get(key) is not None
    ]
    return f"- {kept.index(path) + 1}: [{path.name}]({_link(path, out)}): {', '.join(said)}"


def _link(path: Path, out: Path) -> str:
    return os.path.relpath(path, out.parent)
