"""The table of CTR models for people: in the terminal, and as a plot with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from llmrec.ctr.grid import COUNTS
from llmrec.files import atomic_file


def as_text(records: Sequence[dict]) -> Table:
    """One line per variant and model, as `ctr_table` gives them: AUC, GAUC, and their difference to the reference variant."""
    table = Table(title="CTR, test examples; intervals over users", title_justify="left")
    for column in ("variant", "model", "AUC", "95 % interval", "over ids", "GAUC", "over ids"):
        table.add_column(column, justify="left" if column in ("variant", "model") else "right")
    for record in records:
        auc, gauc = record["auc"], record["gauc"]
        table.add_row(
            record["variant"], record["model"], f"{auc['value']:.4f}", f"{auc['low']:.4f} to {auc['high']:.4f}", _gain(auc),
            f"{gauc['value']:.4f}", _gain(gauc),
        )  # fmt: skip
    return table


def plot_ctr_table(records: Sequence[dict], path: Path) -> None:
    """AUC of every variant with its interval over users, one panel per model; the means of items and users as lines. Writes one SVG."""
    from matplotlib.figure import Figure

    trivial = [record for record in records if record["model"] == COUNTS]
    models = list(dict.fromkeys(record["model"] for record in records if record["model"] != COUNTS))
    variants = list(dict.fromkeys(record["variant"] for record in records if record["model"] != COUNTS))
    figure = Figure(figsize=(3.2 * max(1, len(models)) + 1.6, 0.34 * len(variants) + 1.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(models)), sharey=True, sharex=True, squeeze=False)[0]
    for panel, model in zip(panels, models, strict=False):
        found = {record["variant"]: record["auc"] for record in records if record["model"] == model}
        for row, variant in enumerate(variants):
            auc = found[variant]
            panel.plot([auc["low"], auc["high"]], [row, row], color="#7a8ca3", linewidth=2, solid_capstyle="butt")
            panel.plot(auc["value"], row, "o", color="#1f3a5f", markersize=5)
        for record, style in zip(trivial, (":", "--"), strict=False):
            panel.axvline(
                record["auc"]["value"], color="#b0654a", linestyle=style, linewidth=1, label=record["variant"]
            )
        panel.set_title(model, fontsize=10)
        panel.set_yticks(range(len(variants)), variants, fontsize=9)
        panel.tick_params(axis="x", labelsize=8)
        panel.set_xlabel("AUC", fontsize=9)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].invert_yaxis()
    if trivial:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8, frameon=False
        )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="svg")


def _gain(metric: dict) -> str:
    difference = metric.get("minus_reference")
    if difference is None:
        return ""
    return f"{difference['value']:+.4f} ({difference['verdict']})"
