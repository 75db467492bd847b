"""The report's images as SVG, each made for a light and a dark page. Letters: N items, L levels, K codes of a level."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from llmrec.evaluation.verdicts import label


@dataclass(frozen=True)
class Theme:
    """Colours of one page."""

    ink: str
    faint: str
    accent: str
    second: str
    empty: str


LIGHT = Theme(ink="#33383f", faint="#d5d9de", accent="#2f6fb5", second="#b4552d", empty="#f1f3f5")
DARK = Theme(ink="#d4d8dd", faint="#3b424b", accent="#74aee8", second="#e2946b", empty="#22272e")


@dataclass(frozen=True)
class ThemedImage:
    """One drawing twice, as data URIs, with words for those who cannot see it."""

    light: str
    dark: str
    alt: str


def _both(draw: Callable[[Theme], Figure], alt: str) -> ThemedImage:
    # Fixed ids and no date: the same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "llmrec", "font.size": 10, "axes.spines.top": False,
                                "axes.spines.right": False}):  # fmt: skip
        uris = []
        for theme in (LIGHT, DARK):
            buffer = io.BytesIO()
            draw(theme).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
            uris.append("data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode())
    return ThemedImage(*uris, alt)


def _style(axes, theme: Theme) -> None:
    axes.tick_params(colors=theme.ink, labelcolor=theme.ink, length=0)
    axes.grid(True, color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.ink)


def training_curve(records: Sequence[dict]) -> ThemedImage | None:
    """Training loss and, below it, validation NDCG@10 by step; None without a loss.

    records: what the training log holds, {"step", "loss", ...} and {"step", "eval_ndcg@10", ...} in any order.
    """
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    metric = "eval_ndcg@10"
    ranked = [(record["step"], record[metric]) for record in records if metric in record]
    if not losses:
        return None
    alt = f"Training loss from {losses[0][1]:.3f} to {losses[-1][1]:.3f} in {losses[-1][0]} steps"
    if ranked:
        best = max(ranked, key=lambda point: point[1])
        alt += f"; best validation NDCG@10 {best[1]:.4f} at step {best[0]}"

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 4 if ranked else 2.4), layout="constrained")
        panels = figure.subplots(2 if ranked else 1, 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot(*zip(*losses, strict=True), color=theme.accent, linewidth=1.8)
        panels[0].set_ylabel("training loss")
        if ranked:
            panels[1].plot(*zip(*ranked, strict=True), color=theme.second, linewidth=1.8, marker="o", markersize=4)
            panels[1].set_ylabel("validation NDCG@10")
            panels[1].annotate(
                f"{best[1]:.4f}", best, xytext=(0, 7), textcoords="offset points", ha="center", color=theme.ink
            )
            panels[1].margins(y=0.25)
        panels[-1].set_xlabel("step")
        for axes in panels:
            _style(axes, theme)
        return figure

    return _both(draw, alt)


def intervals(metric: str, names: Sequence[str], results: Sequence[dict]) -> ThemedImage:
    """One line a recommender: the metric's value and interval. results: {"value", "low", "high"} each."""
    alt = f"{label(metric)}: " + ", ".join(f"{n} {r['value']:.4f}" for n, r in zip(names, results, strict=True))

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 0.7 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(names))[::-1]
        values = np.array([result["value"] for result in results])
        axes.hlines(rows, [r["low"] for r in results], [r["high"] for r in results], color=theme.accent, linewidth=2)
        axes.plot(values, rows, "o", color=theme.accent, markersize=7)
        axes.set_yticks(rows, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(left=0)
        axes.set_xlabel(label(metric))
        _style(axes, theme)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        return figure

    return _both(draw, alt)


def codebooks(codes: np.ndarray, codebook_sizes: Sequence[int]) -> ThemedImage:
    """How many items use each code, one panel a level, busiest code first, with how many codes are used at all.

    codes: int (N, L), each in [0, K of its level).
    """
    counts = [np.bincount(codes[:, level], minlength=size) for level, size in enumerate(codebook_sizes)]
    used = [f"level {level + 1}: {(c > 0).sum()} of {len(c)} codes used" for level, c in enumerate(counts)]

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 2.3), layout="constrained")
        panels = figure.subplots(1, len(counts), squeeze=False)[0]
        shades = LinearSegmentedColormap.from_list("usage", [theme.empty, theme.accent])
        most = max(c.max() for c in counts)
        for axes, count, words in zip(panels, counts, used, strict=True):
            side = int(np.ceil(np.sqrt(len(count))))
            grid = np.full(side * side, np.nan)
            grid[: len(count)] = np.sort(count)[::-1]
            mesh = axes.pcolormesh(
                grid.reshape(side, side), cmap=shades, vmin=0, vmax=most, edgecolors=theme.faint, linewidth=0.2
            )
            axes.set_aspect("equal")
            axes.invert_yaxis()
            axes.set_title(words.replace(": ", "\n"), fontsize=9, color=theme.ink)
            axes.set_axis_off()
        bar = figure.colorbar(mesh, ax=list(panels), shrink=0.8, pad=0.02)
        bar.set_label("items per code", color=theme.ink)
        bar.ax.tick_params(colors=theme.ink, length=0)
        bar.outline.set_visible(False)
        return figure

    return _both(draw, "Usage of the codebooks; " + "; ".join(used))
