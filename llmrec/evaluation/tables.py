"""Tables of evaluations: made once, then written as Markdown, LaTeX or HTML. One protocol a table; cost beside accuracy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import ConfigError
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.records import Record, asked_in_words, groups_of, shown_metrics
from llmrec.evaluation.verdicts import label, signed
from llmrec.files import write_text

SUFFIXES = (".md", ".tex")
COSTS = {
    "latency_ms_single_median": "ms alone",
    "latency_ms_batched": "ms in batches",
    "cpu_seconds_per_1000_requests": "CPU s per 1,000",
    "tokens_per_prompt": "tokens a prompt",
    "peak_memory_mib": "peak MiB",
    "peak_gpu_memory_mib": "peak GPU MiB",
    "trained_parameters": "trained parameters",
    "training_cpu_minutes": "CPU min to train",
}
_MARKED = (
    "Bold: significantly better than every other row by paired differences over users; in other columns nobody is."
)


@dataclass(frozen=True)
class Cell:
    """As text; low, high: the interval's ends; spread: standard deviation over seeds; best: better than all others, significantly."""

    value: str
    low: str | None = None
    high: str | None = None
    spread: str | None = None
    best: bool = False

    @property
    def small(self) -> str:
        """What stands below or behind the value; nothing where there is nothing."""
        parts = [] if self.low is None else [f"{self.low} to {self.high}"]
        return "; ".join(parts + ([] if self.spread is None else [f"std {self.spread}"]))


@dataclass(frozen=True)
class Table:
    """Rows of one protocol, which the caption says in words: (name, its cells, one a column). notes: sentences below."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    notes: Sequence[str] = ()


def table_of(group: Sequence[Record], metrics: Sequence[str] | None = None) -> Table:
    """The table of records of one protocol, costs at the right where any was measured. metrics: None for `shown_metrics`.

    Records of several files (their facts differ) were never tested against each other, so none is marked there.
    """
    names = shown_metrics(group) if metrics is None else list(metrics)
    tested = all(record.facts == group[0].facts for record in group)
    leads = {id(record): record.leads.intersection(names) if tested else frozenset() for record in group}
    costs = [name for name in COSTS if any(getattr(record.cost or Cost(), name) is not None for record in group)]
    rows = [
        (
            record.name,
            [*(cell_of(record.metrics[name], name, name in leads[id(record)]) for name in names),
             *(Cell(cost_in_words(record.cost, name)) for name in costs)],
        )
        for record in group
    ]  # fmt: skip
    level = 100 * group[0].protocol["interval"]["level"]
    notes = [f"With a value: its {level:g} % interval over users."]
    if any(leads.values()):
        notes.append(_MARKED)
    if costs:
        devices = sorted({record.cost.device for record in group if record.cost and record.cost.device})
        notes.append(f"Cost as measured, on {' and '.join(devices) or 'one device'}; no part of the protocol.")
    return Table(
        asked_in_words(group[0]), [label(name) for name in names] + [COSTS[name] for name in costs], rows, notes
    )


def cell_of(result: dict, metric: str, best: bool = False) -> Cell:
    """A metric's value, low and high, and the spread over seeds, four decimals each; "none" of a metric that does not exist."""
    if result["value"] is None:
        return Cell("none")

    def shown(value: float | None) -> str | None:
        return None if value is None else number(value, metric)

    spread = None if result.get("std") is None else f"{result['std']:.4f}".removeprefix("0")
    return Cell(shown(result["value"]), shown(result["low"]), shown(result["high"]), spread, best)


def number(value: float, metric: str) -> str:
    """Four decimals without a leading zero; with a sign where 0 is in the middle."""
    if metric.startswith("popularity_bias"):
        return signed(value)
    return f"{value:.4f}".removeprefix("0")


def cost_in_words(cost: Cost | None, name: str) -> str:
    """One of its numbers to three digits; a dash where it is not known."""
    value = None if cost is None else getattr(cost, name)
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:,.3g} M" if value < 1e9 else f"{value / 1e9:,.3g} G"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return "<.01" if value < 0.01 else f"{value:.3g}".removeprefix("0")


def write_tables(path: Path, records: Sequence[Record]) -> None:
    """Every protocol's table as a file of Markdown or LaTeX, by its ending, whole or not at all. ConfigError for another one."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"tables are written to a file that ends in {' or '.join(SUFFIXES)}, but it is '{path}'.")
    tables = [table_of(group) for group in groups_of(records)]
    facts = list({tuple(record.facts.items()): record.facts for record in map(_with_plain_facts, records)}.values())
    write_text(path, as_markdown(tables, facts) if path.suffix == ".md" else as_latex(tables, facts))


def _with_plain_facts(record: Record) -> Record:
    facts = {
        key: str(record.facts[key]) for key in ("command", "commit", "seed", "machine", "date") if key in record.facts
    }
    return Record(record.name, record.protocol, record.metrics, facts=facts)


def as_markdown(tables: Sequence[Table], facts: Sequence[dict] = ()) -> str:
    """The tables below one another, then where the numbers come from."""
    parts = [
        f"{escaped_markdown(table.caption)}\n\n{markdown_rows(table)}\n\n{' '.join(table.notes)}" for table in tables
    ]
    parts += ["; ".join(f"{key}: `{value}`" for key, value in each.items()) for each in facts]
    return "\n\n".join(parts) + "\n"


def markdown_rows(table: Table) -> str:
    """Header and rows."""
    lines = [["", *table.columns], ["---"] * (1 + len(table.columns))]
    for name, cells in table.rows:
        shown = [f"**{cell.value}**" if cell.best else cell.value for cell in cells]
        shown = [f"{value} ({cell.small})" if cell.small else value for value, cell in zip(shown, cells, strict=True)]
        lines.append([escaped_markdown(name), *shown])
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def escaped_markdown(text: str) -> str:
    """Text that a Markdown table shows as it is."""
    return re.sub(
        r"[\\|`*\[\]<>]|(?<!\w)_|_(?!\w)", lambda found: f"\\{found[0]}", _one_line(text)
    )  # a_b is not italic


def as_latex(tables: Sequence[Table], facts: Sequence[dict] = ()) -> str:
    """`table` environments for \\input, without a package; where the numbers come from as comments."""
    lines = [f"% {key}: {_one_line(value)}" for each in facts for key, value in each.items()]
    for table in tables:
        lines += [
            r"\begin{table}", rf"\caption{{{escaped_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\hline",
            " & ".join(["", *map(escaped_latex, table.columns)]) + r" \\", r"\hline",
        ]  # fmt: skip
        for name, cells in table.rows:
            lines.append(" & ".join([escaped_latex(name), *map(_latex_cell, cells)]) + r" \\")
        lines += [
            r"\hline",
            r"\end{tabular}",
            rf"\par\footnotesize {escaped_latex(' '.join(table.notes))}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    value = escaped_latex(cell.value)
    value = rf"\textbf{{{value}}}" if cell.best else value
    return rf"{value} {{\scriptsize ({escaped_latex(cell.small)})}}" if cell.small else value


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "−": r"$-$",
    "–": "--", **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}  # fmt: skip


def escaped_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(mark, mark) for mark in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
