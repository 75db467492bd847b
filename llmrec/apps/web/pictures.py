"""Pictures of items as small WebP images, and title cards drawn as SVG for those without one. A bounded number is kept.

A picture is asked for by the item's number, never by a path, and read from the data folder that the run was trained on.
"""

from __future__ import annotations

import html
import io
import textwrap
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from llmrec.conversation.facets import Facets
from llmrec.data.catalog import Catalog
from llmrec.data.images import ImageError, is_inside, read_image

SIZE = (320, 480)  # pixels at most: twice what a card shows, for dense screens
KEPT_BYTES = 32 << 20
_LINE_CHARACTERS, _MOST_LINES = 13, 6
_FIRST_HUE, _GOLDEN_ANGLE = 205, 137.508  # degrees: the next value's colour is far from those before
_TITLE_SIZES = (34, 29, 24, 20, 17)


class Picture(NamedTuple):
    """An image file's bytes, and its kind as HTTP names it."""

    content: bytes
    kind: str


class Pictures:
    """The pictures of one catalogue. folder: the data folder that its column `image` points into; None: all are drawn."""

    def __init__(self, catalog: Catalog, folder: Path | None, facets: Facets) -> None:
        self._catalog = catalog
        # a drawn card's colour is that of the first value of this column, such as the genre
        self._group_column, groups = next(iter(facets.choices.items()), (None, ()))
        self._hues = {group: _FIRST_HUE + place * _GOLDEN_ANGLE for place, group in enumerate(groups)}
        self._root = folder.resolve() if folder is not None and "image" in catalog.fields else None
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def of(self, item: int) -> Picture:
        """The picture of an item (its number in the catalogue)."""
        with self._lock:
            if item in self._kept:
                self._kept.move_to_end(item)
                return self._kept[item]
        found = self._file(item) or self._drawn(item)
        with self._lock:
            if item not in self._kept:
                self._kept[item] = found
                self._num_bytes += len(found.content)
            while self._num_bytes > KEPT_BYTES and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._num_bytes -= len(oldest.content)
        return found

    def _file(self, item: int) -> Picture | None:
        """The item's own image, None where it has none that can be read."""
        name = self._catalog.text(item, "image") if self._root is not None else ""
        if not name or not is_inside(path := self._root / name, self._root):
            return None
        try:
            image = read_image(path)
        except ImageError:
            return None
        image.thumbnail(SIZE)
        written = io.BytesIO()
        image.save(written, "WEBP", quality=82)
        return Picture(written.getvalue(), "image/webp")

    def _drawn(self, item: int) -> Picture:
        title = self._catalog.title(item) or self._catalog.item_id(item)
        values = self._catalog.table[self._group_column][item].as_py() if self._group_column else None
        group = (values[0] if isinstance(values, list) and values else values) or ""
        return Picture(title_card(title, group, self._hues.get(group)).encode(), "image/svg+xml")


def title_card(title: str, group: str, hue: float | None = None) -> str:
    """An SVG image of a title and its group, such as the genre. hue: of the ground, in degrees; None: it hangs on the title."""
    turn = zlib.crc32(title.encode("utf-8", "replace"))
    hue = round((turn if hue is None else hue + turn % 31) % 360)
    size, lines = _fitted(" ".join(title.split()))
    top = 452 - size * 1.12 * (len(lines) - 1)
    words = "".join(
        f'<text x="24" y="{top + size * 1.12 * row:.0f}">{_text(line)}</text>' for row, line in enumerate(lines)
    )
    # two large circles, placed by the title, so that neighbours of one group differ
    x, y, radius = 40 + turn % 240, 60 + turn // 240 % 160, 90 + turn // 38400 % 70
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 480" width="320" height="480" role="img">'
        f'<defs><linearGradient id="g" x1="0" y1="0" x2=".6" y2="1"><stop offset="0" stop-color="hsl({hue} 48% 46%)"/>'
        f'<stop offset="1" stop-color="hsl({(hue + 38) % 360} 56% 21%)"/></linearGradient></defs>'
        '<rect width="320" height="480" fill="url(#g)"/>'
        f'<circle cx="{x}" cy="{y}" r="{radius}" fill="#fff" fill-opacity=".10"/>'
        f'<circle cx="{320 - x}" cy="{y + 130}" r="{radius * 0.62:.0f}" fill="#fff" fill-opacity=".08"/>'
        '<g fill="#fff" font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif">'
        f'<text x="24" y="{top - size - 8:.0f}" font-size="16" letter-spacing="1.5" fill-opacity=".8">'
        f"{_text(group[:24].upper())}</text>"
        f'<g font-size="{size}" font-weight="700">{words}</g></g></svg>'
    )


def _fitted(title: str) -> tuple[int, list[str]]:
    """The largest size at which the title takes few lines, and these; a very long one is cut."""
    for size in _TITLE_SIZES:
        lines = textwrap.wrap(title, int(_LINE_CHARACTERS * _TITLE_SIZES[0] / size)) or [""]
        if len(lines) <= _MOST_LINES:
            return size, lines
    return size, [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1][:-1] + "…"]


def _text(words: str) -> str:
    """For XML, which has no control characters."""
    return html.escape("".join(c for c in words if c.isprintable()))
