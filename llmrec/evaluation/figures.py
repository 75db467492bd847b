"""The report's images as SVG, each made for a light and a dark page. Letters: N items, L levels, K codes of a level."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from llmrec.evaluation.cost import pareto_front
from llmrec.evaluation.verdicts import label

_VALIDATED = ("ndcg@10", "auc")
_LONGEST = 34  # characters of a name
_MIDDLES = {"auc": 0.5, "gauc": 0.5, "popularity_bias": 0.0}


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


def _both(draw: Callable[[Theme], Figure], alt: str, *, is_shaded: bool = False) -> ThemedImage:
    """is_shaded: colours between those of the theme occur; else the light drawing with each colour replaced is the dark one."""
    # Fixed ids and no date: the same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "llmrec", "font.size": 10, "axes.spines.top": False,
                                "axes.spines.right": False}):  # fmt: skip
        light = _svg(draw(LIGHT))
        dark = _svg(draw(DARK)) if is_shaded else light
    if not is_shaded:
        for field in fields(Theme):
            dark = dark.replace(getattr(LIGHT, field.name), getattr(DARK, field.name))
    return ThemedImage(*map(_uri, (light, dark)), alt)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().decode()


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _style(axes, theme: Theme) -> None:
    axes.tick_params(colors=theme.ink, labelcolor=theme.ink, length=0)
    axes.grid(True, color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.ink)


def training_curve(records: Sequence[dict]) -> ThemedImage | None:
    """Training loss and, below it, what validation found by step; None without a loss.

    records: what the training log holds, {"step", "loss", ...} and {"step", "eval_ndcg@10", ...} in any order; drawn is NDCG@10 where
    it was computed, else AUC.
    """
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    if not losses:
        return None
    metric = next((name for name in _VALIDATED if any(f"eval_{name}" in record for record in records)), _VALIDATED[0])
    ranked = [(record["step"], record[f"eval_{metric}"]) for record in records if f"eval_{metric}" in record]
    alt = f"Training loss from {losses[0][1]:.3f} to {losses[-1][1]:.3f} in {losses[-1][0]} steps"
    if ranked:
        best = max(ranked, key=lambda point: point[1])
        alt += f"; best validation {label(metric)} {best[1]:.4f} at step {best[0]}"

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 4 if ranked else 2.4), layout="constrained")
        panels = figure.subplots(2 if ranked else 1, 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot(*zip(*losses, strict=True), color=theme.accent, linewidth=1.8)
        panels[0].set_ylabel("training loss")
        if ranked:
            panels[1].plot(*zip(*ranked, strict=True), color=theme.second, linewidth=1.8, marker="o", markersize=4)
            panels[1].set_ylabel(f"validation {label(metric)}")
            panels[1].annotate(
                f"{best[1]:.4f}", best, xytext=(0, 7), textcoords="offset points", ha="center", color=theme.ink
            )
            panels[1].margins(y=0.25)
        panels[-1].set_xlabel("step")
        for axes in panels:
            _style(axes, theme)
        return figure

    return _both(draw, alt)


def position_bias(found: Mapping[str, dict]) -> ThemedImage:
    """Where the chosen candidates stood, a panel a model. found: by name what `asked.choose.position_bias` returns; bars are the shares
    of `first_choice_by_position`, the dashed line is `chance`, dots are `accuracy_by_target_position`."""
    said = [
        f"{name}: " + ", ".join(f"{share:.2f}" for share in own["first_choice_by_position"])
        for name, own in found.items()
    ]

    def draw(theme: Theme) -> Figure:
        down, across = -(-len(found) // 2), min(2, len(found))
        figure = Figure(figsize=(2.75 * across, 2.2 * down), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axes, (name, own) in zip(panels, found.items(), strict=False):
            shares, right = own["first_choice_by_position"], own["accuracy_by_target_position"]
            places = np.arange(1, len(shares) + 1)
            axes.bar(places, shares, color=theme.accent, width=0.8)
            axes.axhline(own["chance"], color=theme.second, linewidth=1, linestyle="--")
            axes.plot(
                places, [np.nan if share is None else share for share in right], "o", color=theme.ink, markersize=4
            )
            axes.set_title(shortened(name), fontsize=9, color=theme.ink)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            _style(axes, theme)
            axes.grid(False, axis="x")
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        figure.supxlabel("place among the candidates", color=theme.ink, fontsize=10)
        figure.supylabel("share", color=theme.ink, fontsize=10)
        return figure

    return _both(draw, "Choices by place; " + "; ".join(said))


def intervals(metric: str, names: Sequence[str], results: Sequence[dict]) -> ThemedImage:
    """One line a recommender: the metric's value and interval. results: {"value", "low", "high"} each.

    Ranking metrics begin at 0; where another value means "no better than chance" or "as popular as the history", a line stands there.
    """
    alt = f"{label(metric)}: " + ", ".join(f"{n} {_or_none(r['value'])}" for n, r in zip(names, results, strict=True))

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 0.7 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        _dots(axes, metric, names, results, theme)
        axes.set_xlabel(label(metric))
        return figure

    return _both(draw, alt)


def _dots(axes: Axes, metric: str, names: Sequence[str], results: Sequence[dict], theme: Theme) -> None:
    """Rows of dots with intervals where there are any; a value that does not exist leaves its row empty."""
    rows = np.arange(len(names))[::-1]
    for row, result in zip(rows, results, strict=True):
        if result["low"] is not None:
            axes.hlines(row, result["low"], result["high"], color=theme.accent, linewidth=2)
        if result["value"] is not None:
            axes.plot(result["value"], row, "o", color=theme.accent, markersize=7)
    axes.set_yticks(rows, [shortened(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    middle = _MIDDLES.get(metric.partition("@")[0])
    if middle is None:
        axes.set_xlim(left=0)
    else:
        axes.axvline(middle, color=theme.second, linewidth=1, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _style(axes, theme)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def shortened(name: str) -> str:
    """A name that leaves room for the figure."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip()}…"


def in_slices(metric: str, names: Sequence[str], slices: Sequence[tuple[str, Sequence[dict]]]) -> ThemedImage:
    """One panel a slice, as `intervals`. slices: (name and number in words, results of each recommender)."""
    said = [f"{title}: " + ", ".join(f"{n} {_or_none(r['value'])}" for n, r in zip(names, results, strict=True))
            for title, results in slices]  # fmt: skip

    def draw(theme: Theme) -> Figure:
        across = min(2, len(slices))
        down = -(-len(slices) // across)
        figure = Figure(figsize=(7.5, down * (0.8 + 0.3 * len(names))), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axes, (title, results) in zip(panels, slices, strict=False):
            _dots(axes, metric, names, results, theme)
            axes.set_title(title, fontsize=9, color=theme.ink)
        for axes in panels[len(slices) :]:
            axes.set_axis_off()
        figure.supxlabel(label(metric), color=theme.ink, fontsize=10)
        return figure

    return _both(draw, f"{label(metric)} by slice; " + "; ".join(said))


def against_latency(
    metric: str,
    names: Sequence[str],
    latencies: Sequence[float],
    values: Sequence[float],
    *,
    higher_is_better: bool = True,
) -> ThemedImage:
    """The metric over milliseconds of one request, logarithmic; the Pareto front is drawn through, and numbers stand for the names."""
    front = pareto_front(latencies, values, higher_is_better=higher_is_better)
    order = sorted(np.flatnonzero(front).tolist(), key=lambda row: latencies[row])
    alt = f"{label(metric)} against milliseconds a request: " + ", ".join(
        f"{n} {value:.4f} at {cost:.3g} ms{' (on the Pareto front)' if on else ''}"
        for n, cost, value, on in zip(names, latencies, values, front, strict=True)
    )

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.5, 3.1 + 0.19 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        far = max(latencies) > 100 * min(latencies)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if far else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda milliseconds, _: f"{milliseconds:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.plot([latencies[row] for row in order], [values[row] for row in order], color=theme.second, linewidth=1.4,
                  drawstyle="steps-post", label="Pareto front")  # fmt: skip
        for number, (cost, value, on) in enumerate(zip(latencies, values, front, strict=True), 1):
            color = theme.second if on else theme.accent
            entry = f"{number}  {shortened(names[number - 1])}"
            axes.plot(cost, value, "o", color=color, markersize=8, label=entry)
            axes.annotate(
                str(number), (cost, value), xytext=(6, 5), textcoords="offset points", color=theme.ink, fontsize=9
            )
        axes.margins(0.12)
        axes.set_xlabel("milliseconds of one request by itself (median)")
        axes.set_ylabel(label(metric))
        _style(axes, theme)
        figure.legend(loc="outside lower left", fontsize=8, frameon=False, labelcolor=theme.ink, handletextpad=0.4)
        return figure

    return _both(draw, alt)


def calibration(names: Sequence[str], points: Sequence[dict]) -> ThemedImage:
    """Share liked over mean score, one panel a scorer; on the dashed line a score of .7 is liked seven times in ten. points: "scores",
    "liked", "counts" of each, as `metrics.Reliability` has them; a dot's area is the share of examples in it."""
    said = [f"{name}: " + ", ".join(f"{s:.2f} said, {liked:.2f} liked" for s, liked in zip(p["scores"], p["liked"], strict=True))
            for name, p in zip(names, points, strict=True)]  # fmt: skip

    def draw(theme: Theme) -> Figure:
        across = min(3, len(names))
        down = -(-len(names) // across)
        figure = Figure(figsize=(2.5 * across, 2.55 * down), layout="constrained")
        panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, name, own in zip(panels, names, points, strict=False):
            shares = np.array(own["counts"]) / sum(own["counts"])
            axes.plot([0, 1], [0, 1], "--", color=theme.second, linewidth=1)
            axes.plot(own["scores"], own["liked"], color=theme.accent, linewidth=1.2)
            axes.scatter(own["scores"], own["liked"], s=8 + 150 * shares, color=theme.accent)
            axes.set_title(shortened(name), fontsize=9, color=theme.ink)
            axes.set_xlim(-0.04, 1.04)
            axes.set_ylim(-0.04, 1.04)
            axes.set_aspect("equal")
            _style(axes, theme)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.supxlabel("mean score", color=theme.ink, fontsize=10)
        figure.supylabel("share liked", color=theme.ink, fontsize=10)
        return figure

    return _both(draw, "Calibration; " + "; ".join(said))


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


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

    return _both(draw, "Usage of the codebooks; " + "; ".join(used), is_shaded=True)
