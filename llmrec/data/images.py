"""Reads the image files of items: damaged ones are told from whole ones, huge ones are refused before they are decoded.

Image files come from untrusted sources. Only plain raster formats are opened, the size is read in the header before
anything is decoded, and what PIL calls a decompression bomb is an error here.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # none that runs an outside program, as EPS does
MAX_PIXELS = 50_000_000
PIXEL_LIMIT = 89_478_485  # where PIL begins to call an image a decompression bomb; nothing raises it
MAX_BYTES = 100_000_000
# What PIL's decoders are known to raise on damaged bytes.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, NotImplementedError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class ImageError(DataError):
    """An image file that cannot be used; the text is the reason alone, and who knows the item and the file says those."""


def image_paths(catalog: Catalog, folder: Path) -> list[Path | None]:
    """One path per item from the column `image`, None where it names none. folder: the data folder that the paths lie in.

    Raises DataError where there is no such column, or where a path leads out of the folder.
    """
    if "image" not in catalog.fields:
        raise DataError(
            f"the catalog has no column 'image' (it has: {', '.join(catalog.fields)}), so its items have no images. Prepare the "
            "data from items with a column `image` that names image files."
        )
    root = folder.resolve()
    paths: list[Path | None] = []
    for item, name in enumerate(catalog.table["image"].to_pylist()):
        path = root / name if name else None
        if path is not None and not is_inside(path, root):
            raise DataError(
                f"the image of item '{catalog.item_id(item)}' is '{name}', which leads out of the data folder '{folder}'. "
                "Images lie inside it; `llmrec data prepare` copies them there."
            )
        paths.append(path)
    return paths


def read_content(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image file whose header says a known format and at most `max_pixels` pixels. Raises ImageError."""
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a pipe or a device has no end
            raise ImageError("it is no plain file")
        size = status.st_size
        if size > MAX_BYTES:
            raise ImageError(f"the file has {size:,} bytes, more than the {MAX_BYTES:,} that an image may have")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error
    _open(content, max_pixels)
    return content


def decode_image(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in a file's bytes: mode RGB, upright (EXIF), 8 bits per channel, on white where it was transparent.

    Animated images give their first frame. Raises ImageError where the bytes are no whole image.
    """
    image = _open(content, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
    except _DAMAGE as error:
        raise ImageError(f"the image is damaged or breaks off ({_one_line(error)})") from error


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`decode_image` of a file. Raises ImageError."""
    return decode_image(read_content(path, max_pixels), max_pixels)


def _open(content: bytes, max_pixels: int) -> Image.Image:
    """The image with only its header read."""
    if not content:
        raise ImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"the file is no image ({', '.join(FORMATS)} are read)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the image is too large to be decoded safely ({_one_line(error)})") from error
    except _DAMAGE as error:
        raise ImageError(f"the image is damaged ({_one_line(error)})") from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"the image has {image.width} x {image.height} pixels, more than the {max_pixels:,} that are decoded"
        )
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits: PIL's own conversion would cut everything above 255 to white
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values.clip(0, 65_535) // 256).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, ValueError):  # a loop of links, a null byte
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
