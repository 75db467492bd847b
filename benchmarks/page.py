"""Writes the results into docs/speed.md, between its two markers: no number there is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import plots
from harness import ROOT, processor

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- results: written by `make bench-full` -->", "<!-- end of results -->"


Results = dict[str, dict]  # name -> what a bench printed, of one machine


def write() -> None:
    """The plots of benchmarks/results/MACHINE/*.json, and the section of docs/speed.md."""
    folders = [folder for folder in sorted(RESULTS.iterdir()) if any(folder.glob("*.json"))]
    machines = [read(folder) for folder in folders]
    images = [plots.write(results, folder) for results, folder in zip(machines, folders, strict=True)]
    PAGE.write_text(with_results(PAGE.read_text(), section(machines, images)))


def read(folder: Path) -> Results:
    """The results of one machine."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def with_results(page: str, text: str) -> str:
    """The page with `text` between its markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{rest[rest.index(END) :]}"


def section(machines: Sequence[Results], images: Sequence[Sequence[tuple[Path, str]]]) -> str:
    """Goals, and for every machine its ratios, lower bounds and images, as Markdown."""
    parts = [_goals(machines)]
    for results, sampled in zip(machines, images, strict=True):
        parts += [f"### {_processor(results)}", _ratios(results), _rates(results), _lower_bounds(results)]
        parts += [_absent(results), _origins(results)]
        parts += [f"![{alt}](../{path.relative_to(ROOT).as_posix()})" for path, alt in sampled]
    return "\n\n".join(part for part in parts if part)


def _processor(results: Results) -> str:
    return processor(next(iter(results.values()))["machine"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _goals(machines: Sequence[Results]) -> str:
    """A row per goal, a column per machine; what misses its goal is bold."""
    found: dict[tuple[str, str, str], list[str]] = {}  # (what, goal, result) -> a cell per machine
    counts = []
    for column, results in enumerate(machines):
        goals = [(name, goal) for name, result in results.items() for goal in result.get("goals", ())]
        for name, goal in goals:
            cell = f"{goal['measured']:.4g} {goal['unit']}"
            cells = found.setdefault((goal["what"], goal["goal"], f"`{name}`"), [""] * len(machines))
            cells[column] = cell if goal["reached"] else f"**{cell}**"
        if goals:
            counts.append(f"{sum(goal['reached'] for _, goal in goals)} of {len(goals)} goals on {_processor(results)}")
    header = ("what", "goal", "result", *map(_processor, machines))
    rows = [[*goal, *cells] for goal, cells in found.items()]
    return f"Reached: {', '.join(counts)}. What misses its goal is bold.\n\n{_table(header, rows)}" if rows else ""


def _ratios(results: Results) -> str:
    rows = []
    for name, result in results.items():
        clock = result.get("clock", "process")
        for peer, ratio in result.get("ratio", {}).items():
            cells = [_spread(result, each, clock) for each in (peer, "ours")]
            rows.append([f"`{name}`", peer, f"{ratio:.3g}", *cells])
    return "How many times longer a peer takes, with equal outputs; seconds are median (min .. max):\n\n" + _table(
        ("result", "peer", "times ours", "peer's seconds", "our seconds"), rows
    )


def _rates(results: Results) -> str:
    """Requests per second of what has them: ours and each peer's."""
    rated = {name: result for name, result in results.items() if "requests_per_s" in result}
    if not rated:
        return ""
    names = list(dict.fromkeys(name for result in rated.values() for name in result["requests_per_s"]))
    rows = [[f"`{result}`", *_numbers(rated[result]["requests_per_s"], names)] for result in rated]
    clocks = " or ".join(sorted({result["clock"] for result in rated.values()}))
    words = f"Requests per second: those of a batch over the median time it takes, by the {clocks} clock:"
    return f"{words}\n\n{_table(('result', *names), rows)}"


def _lower_bounds(results: Results) -> str:
    """What a request costs over its prompt, and the lower bounds that were measured with it; results of older code may lack some."""
    rows = [
        [f"`{name}`", f"{result['over_prefill']:.3g}", *_numbers(result["lower_bound"], ("products", "rows"))]
        for name, result in results.items()
        if "over_prefill" in result
    ]
    if not rows:
        return ""
    words = (
        "A request over reading its prompt alone, and two lower bounds: the layers' matrix products alone, in the same passes, over "
        "those of the prompt's pass; and token rows at the prompt's price."
    )
    if any("" in cells for cells in rows):
        words += " Where a lower bound is empty, the result is of code that did not measure it."
    return f"{words}\n\n{_table(('result', 'measured', 'lower bound: products', 'lower bound: rows'), rows)}"


def _numbers(values: dict[str, float], names: Sequence[str]) -> list[str]:
    """A cell per name, empty where it has no number."""
    return [f"{values[name]:.3g}" if name in values else "" for name in names]


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


def _origins(results: Results) -> str:
    """Where each number comes from: machine, versions, day and commit."""
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        machine = result["machine"]
        gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
        versions = ", ".join(f"{each} {machine[each]}" for each in ("python", "numpy", "torch", "transformers"))
        size = f"{machine['cores']} cores, {machine['memory_gib']} GiB, threads used: {machine['threads']}"
        words = f"{gpu}{machine['cpu']}, {machine['instructions']}, {size}, {versions}; {machine['date']}, commit {machine['commit']}"
        groups.setdefault(words, []).append(f"`{name}`")
    return "\n".join(f"- {words}: {', '.join(names)}." for words, names in groups.items())
