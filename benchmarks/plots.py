"""The images of docs/speed.md: how many times longer peers take, and how time grows. SVG, the same numbers the same file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

INK, FAINT, ACCENT = "#33383f", "#d5d9de", "#2f6fb5"
AXES = {
    "catalogue_size": "items in the catalogue",
    "history": "items in the history",
    "beams": "beams",
    "batch": "requests in a batch",
    "rules": "rules",
}


def write(results: dict[str, dict], folder: Path) -> list[tuple[Path, str]]:
    """ratios-BENCH.svg for each bench with peers and growth.svg where there is a growth.json: (path, words) each."""
    images = []
    with matplotlib.rc_context(
        {"svg.hashsalt": "llmrec", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        for bench in dict.fromkeys(result["bench"] for result in results.values()):
            bars = [
                (f"{name}: {peer}" if name != bench else peer, ratio)
                for name, result in results.items()
                if result["bench"] == bench
                for peer, ratio in result.get("ratio", {}).items()
            ]
            if bars:
                alt = f"{bench}: times longer than llmrec: " + ", ".join(f"{name} {ratio:.3g}" for name, ratio in bars)
                images.append((_save(_bars(bench, bars), folder / f"ratios-{bench}.svg"), alt))
        for name, result in results.items():
            if "points" in result:
                alt = "Seconds per request against " + ", ".join(AXES[axis] for axis in result["points"])
                images.append((_save(_lines(result["points"]), folder / f"{name}.svg"), alt))
    return images


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
    return path


def _bars(bench: str, bars: Sequence[tuple[str, float]]) -> Figure:
    """A bar per peer, from 1 (as fast as ours); a logarithmic axis where the longest is over 20 times the shortest."""
    names, ratios = zip(*bars, strict=True)
    figure = Figure(figsize=(7, 1.1 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    heights = range(len(bars) - 1, -1, -1)
    axes.barh(heights, [ratio - 1 for ratio in ratios], left=1, color=ACCENT, height=0.6)
    axes.axvline(1, color=INK, linewidth=1)
    for height, ratio in zip(heights, ratios, strict=True):
        axes.annotate(
            f"{ratio:.3g}x", (max(1, ratio), height), xytext=(4, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_yticks(heights, names)
    axes.set_title(f"benchmarks/{bench}.py", color=INK, loc="left")
    if max(ratios) > 20 * min(ratios):
        axes.set_xscale("log")
        axes.set_xlim(0.8 * min(1, *ratios), 3 * max(ratios))
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(0, 1.15 * max(1, *ratios))
    axes.set_xlabel("median time of the peer / ours (1: as fast)")
    _style(axes)
    axes.grid(False, axis="y")
    return figure


def _lines(points: dict[str, dict[str, float]]) -> Figure:
    """A panel for each thing that grows: sizes on a logarithmic axis, milliseconds from 0, so that flat looks flat. Rules are bars."""
    columns = 2
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(8, 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (axis, seconds) in zip(panels, points.items(), strict=False):
        if axis == "rules":
            axes.barh(list(seconds)[::-1], [1000 * value for value in seconds.values()][::-1], color=ACCENT, height=0.6)
            axes.set_xlabel("milliseconds per request")
            _style(axes)
            continue
        sizes = sorted(seconds, key=float)
        axes.plot([float(size) for size in sizes], [1000 * seconds[size] for size in sizes], "o-", color=ACCENT)
        axes.set_xscale("log")
        axes.set_xticks([float(size) for size in sizes], [f"{float(size):,.0f}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(0, 1080 * max(seconds.values()))
        axes.set_xlabel(AXES[axis])
        axes.set_ylabel("milliseconds per request")
        _style(axes)
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    return figure


def _style(axes: matplotlib.axes.Axes) -> None:
    axes.tick_params(colors=INK, labelcolor=INK, length=0)
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
