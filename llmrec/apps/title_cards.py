"""An image for every film of the demo: posters of the user's own, or plain title cards, because MovieLens comes without images.

A title card shows nothing that the title and the genres do not say: it stands in for a poster so that the path of images can be
tried, and says nothing of what images are worth.
"""

from __future__ import annotations

import colorsys
import json
import textwrap
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from llmrec.errors import DataError
from llmrec.files import atomic_folder

SIZE = (150, 225)  # pixels, of a film poster's shape
FONT_SIZES = (26, 21, 17, 14, 11)
MARGIN, STROKE = 10, 2  # pixels
POSTER_KINDS = (".jpg", ".jpeg", ".png")
STAND_INS = "title_cards"  # what the names of the demo's folders of title cards begin with


def title_card(title: str, genres: Sequence[str]) -> Image.Image:
    """The title on a ground of one band a genre, each genre in a colour of its own; the same image for the same words."""
    card = Image.new("RGB", SIZE, "dimgray")
    draw = ImageDraw.Draw(card)
    for place, genre in enumerate(genres):
        top, bottom = (SIZE[1] * edge // len(genres) for edge in (place, place + 1))
        draw.rectangle((0, top, SIZE[0], bottom), fill=genre_colour(genre))
    for size in FONT_SIZES:
        font = ImageFont.load_default(size)
        words = textwrap.fill(title, width=max(4, int((SIZE[0] - 2 * MARGIN) / (0.55 * size))))
        left, top, right, bottom = draw.multiline_textbbox(
            (0, 0), words, font=font, align="center", stroke_width=STROKE
        )
        if right - left <= SIZE[0] - 2 * MARGIN and bottom - top <= SIZE[1] - 2 * MARGIN:
            break
    middle = (SIZE[0] / 2, SIZE[1] / 2)
    draw.multiline_text(middle, words, "white", font, "mm", align="center", stroke_width=STROKE, stroke_fill="black")
    return card


def genre_colour(genre: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255: a hue that depends on the genre's name alone."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(genre.encode()) % 360 / 360, 0.6, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def items_with_images(
    items: Path, out: Path, *, posters: Path | None = None, only: Collection[str] | None = None
) -> Path:
    """Writes the films of a jsonl file anew to OUT/(name of OUT).jsonl, with a column `image` and the image files next to it.

    posters: a folder of ITEM_ID.jpg or ITEM_ID.png; films without one there get no image. None draws title cards.
    only: ids of the films that get images, None for all.

    Raises DataError where the folder is none or holds no poster of these films.
    """
    rows = [json.loads(line) for line in items.read_text(encoding="utf-8").splitlines()]
    found = {} if posters is None else _posters(posters, [row["item_id"] for row in rows])
    with atomic_folder(out) as new:
        for row in rows:
            item_id = row["item_id"]
            if only is not None and item_id not in only:
                continue
            if posters is None:
                row["image"] = f"{item_id}.png"
                title_card(row["title"], row["genres"]).save(new / row["image"])
            elif item_id in found:
                row["image"] = found[item_id].name
                (new / row["image"]).write_bytes(found[item_id].read_bytes())
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (new / f"{out.name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out / f"{out.name}.jsonl"


def _posters(folder: Path, item_ids: Sequence[str]) -> dict[str, Path]:
    """item id -> its poster. Raises DataError where there is no folder or no poster in it."""
    if not folder.is_dir():
        raise DataError(f"expected a folder of posters named ITEM_ID.jpg or ITEM_ID.png, but '{folder}' is none.")
    known = set(item_ids)
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in POSTER_KINDS}
    found = {item_id: path for item_id, path in found.items() if item_id in known}
    if not found:
        raise DataError(
            f"no file in '{folder}' is a poster of these films; name them after the films' ids: {item_ids[0]}.jpg, {item_ids[1]}.png."
        )
    return found
