"""Draws docs/imports.svg from the source: the packages of llmrec on the layers of the contract, and which imports which.

An import that follows from a chain of others is left out.

    python docs/draw_imports.py          # writes the image
    python docs/draw_imports.py --check  # exit status 1 where the image is not that of today's imports
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGE = ROOT / "docs" / "imports.svg"
WIDTH, ROW, BOX_HEIGHT, MARGIN = 760, 62, 30, 12
BASE = "config, files, errors and other single modules"  # one box for all that is no package, but for ALONE
ALONE = ("recommender", "conversing", "fit")
ZIGZAG = (0, -150, 150)  # rows of one box step aside, so that arrows pass by
STYLE = "font-family: system-ui, sans-serif; font-size: 13px"


def layers() -> list[list[str]]:
    """The rows of the contract in pyproject.toml, uppermost first, without the package's own name; BASE at the bottom."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    rows = [[name.strip().removeprefix("llmrec.") for name in row.split("|")] for row in contract["layers"]]
    return [kept for row in rows if (kept := [name for name in row if box_of(name) == name])] + [[BASE]]


def box_of(name: str) -> str:
    """The box that a package or module of llmrec stands in."""
    return name if (ROOT / "llmrec" / name).is_dir() or name in ALONE else BASE


def imports() -> dict[str, set[str]]:
    """Box -> boxes that it imports, inside functions and for types too."""
    found: dict[str, set[str]] = {}
    for path in ROOT.glob("llmrec/**/*.py"):
        importing = path.relative_to(ROOT / "llmrec").with_suffix("").parts[0]
        if importing.startswith("__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmrec":
                imported = [*node.module.split(".")[1:], *(alias.name for alias in node.names)][0]
                found.setdefault(box_of(importing), set()).add(box_of(imported))
    return {box: others - {box} for box, others in found.items()}


def without_shortcuts(found: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that no chain of others implies."""

    def below(box: str) -> set[str]:
        return {deeper for other in found.get(box, ()) for deeper in (other, *below(other))}

    return sorted((box, other) for box, others in found.items() for other in others
                  if not any(other in below(between) for between in others))  # fmt: skip


def draw() -> str:
    """The image as SVG: an arrow from the bottom of the importing box to the top of the imported one."""
    rows = layers()
    place: dict[str, tuple[float, float, float]] = {}  # box -> centre x, top y, width
    alone = 0
    for number, row in enumerate(rows):
        widths = [8.5 * len(name) + 26 for name in row]
        left = (WIDTH - sum(widths) - 4 * MARGIN * (len(row) - 1)) / 2
        if len(row) == 1 and row != [BASE]:
            left += ZIGZAG[alone % len(ZIGZAG)]
            alone += 1
        for name, width in zip(row, widths, strict=True):
            place[name] = (left + width / 2, MARGIN + number * ROW, width)
            left += width + 4 * MARGIN
    height = 2 * MARGIN + (len(rows) - 1) * ROW + BOX_HEIGHT
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" style="{STYLE}">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             '<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
             '<path d="M0 0 L8 4 L0 8 z" fill="#3b6ea5"/></marker></defs>']  # fmt: skip
    for one, other in without_shortcuts(imports()):
        (x0, y0, _), (x1, y1, _) = place[one], place[other]
        y0 += BOX_HEIGHT
        bend = max(20, (y1 - y0) / 2)
        lines.append(
            f'<path d="M{x0:.0f} {y0} C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1}" fill="none" stroke="#3b6ea5" '
            f'marker-end="url(#to)"><title>{one} imports {other}</title></path>'
        )
    for name, (x, y, width) in place.items():
        lines.append(
            f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5" fill="#eef3f8" '
            f'stroke="#3b6ea5"/><text x="{x:.0f}" y="{y + 20}" text-anchor="middle" fill="#1b2733">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(IMAGE.read_text(encoding="utf-8") != draw())
    IMAGE.write_text(draw(), encoding="utf-8")
