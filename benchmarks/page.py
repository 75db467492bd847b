"""Writes the results into docs/speed.md, between its two markers: no number there is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import plots
from harness import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- results: written by `make bench-full` -->", "<!-- end of results -->"


def write() -> None:
    """The plots of benchmarks/results/*.json, and the section of docs/speed.md."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    pictures = plots.write(results, RESULTS)
    PAGE.write_text(with_results(PAGE.read_text(), section(results, pictures)))


def with_results(page: str, text: str) -> str:
    """The page with `text` between its markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{rest[rest.index(END) :]}"


def section(results: dict[str, dict], pictures: Sequence[tuple[Path, str]]) -> str:
    """Goals, ratios, machines and pictures as Markdown."""
    machines = []  # numbered in order of appearance
    for result in results.values():
        if (words := _machine(result["machine"])) not in machines:
            machines.append(words)
    parts = [_goals(results, machines), _ratios(results, machines), _absent(results)]
    parts.append("\n".join(f"Machine {number}: {words}." for number, words in enumerate(machines, 1)))
    parts += [f"![{alt}](../{path.relative_to(ROOT).as_posix()})" for path, alt in pictures]
    return "\n\n".join(part for part in parts if part)


def _machine(machine: dict) -> str:
    """All that two comparable results share."""
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "numpy", "torch", "transformers"))
    size = f"{machine['cores']} cores, {machine['memory_gib']} GiB, threads used: {machine['threads']}"
    return f"{gpu}{machine['cpu']}, {size}, {versions}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _origin(name: str, result: dict, machines: Sequence[str]) -> list[str]:
    machine = result["machine"]
    return [f"`{name}`", machine["commit"], machine["date"], str(machines.index(_machine(machine)) + 1)]


def _goals(results: dict[str, dict], machines: Sequence[str]) -> str:
    rows = [
        [goal["what"], goal["goal"], f"{goal['measured']:.4g} {goal['unit']}", "yes" if goal["reached"] else "**no**",
         *_origin(name, result, machines)]
        for name, result in results.items()
        for goal in result.get("goals", ())
    ]  # fmt: skip
    reached = sum(goal["reached"] for result in results.values() for goal in result.get("goals", ()))
    header = ("what", "goal", "measured", "reached", "result", "commit", "date", "machine")
    return f"{reached} of {len(rows)} goals reached.\n\n{_table(header, rows)}" if rows else ""


def _ratios(results: dict[str, dict], machines: Sequence[str]) -> str:
    rows = []
    for name, result in results.items():
        clock = "wall" if "gpu" in result["machine"] else "process"
        for peer, ratio in result.get("ratio", {}).items():
            rows.append([f"`{name}`", peer, f"{ratio:.3g}", _spread(result, peer, clock)])
    return "How many times longer a peer takes, with equal outputs:\n\n" + _table(
        ("result", "peer", "times ours", "peer's seconds: median (min .. max)"), rows
    )


def _spread(result: dict, peer: str, clock: str) -> str:
    if peer not in result.get("seconds", {}):
        return ""
    seconds = result["seconds"][peer][clock]
    return f"{seconds['median']:.3g} ({seconds['min']:.3g} .. {seconds['max']:.3g})"


def _absent(results: dict[str, dict]) -> str:
    lines = [
        f"- `{name}`: {peer} was not installed. To have it: `{how}`"
        for name, result in results.items()
        for peer, how in result.get("absent", {}).items()
    ]
    return "\n".join(lines)
