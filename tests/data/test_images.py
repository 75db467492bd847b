"""Image files: whole ones come out upright and in RGB, the others say what is wrong with them before they cost anything."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llmrec.data.catalog import Catalog
from llmrec.data.images import ImageError, decode_image, image_paths, read_content, read_image
from llmrec.errors import DataError

RED, WHITE = (255, 0, 0), (255, 255, 255)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))


def content(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that claim to be an image of this size, as a bomb does."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_known_format_comes_out_as_rgb(kind):
    assert np.abs(pixels(content(Image.new("RGB", (6, 4), RED), kind)) - RED).max() < 8
    assert pixels(content(Image.new("RGB", (6, 4), RED), kind)).shape == (4, 6, 3)


def test_a_photo_taken_sideways_stands_upright():
    image = Image.new("RGB", (8, 4), WHITE)
    image.paste(RED, (0, 0, 2, 4))  # the left edge
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    upright = pixels(content(image, "PNG", exif=exif))
    assert upright.shape == (8, 4, 3)
    assert (upright[:2] == RED).all() and (upright[2:] == WHITE).all()


def test_what_is_transparent_lies_on_white():
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (pixels(content(clear)) == WHITE).all()
    assert np.abs(pixels(content(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))) - 127).max() <= 1
    assert (pixels(content(Image.new("LA", (2, 2), (0, 0)))) == WHITE).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([*RED, 0, 0, 255])
    assert (pixels(content(palette)) == RED).all()
    assert (pixels(content(palette, transparency=0)) == WHITE).all()


def test_sixteen_bits_grey_one_bit_and_printing_colours_are_understood():
    grey = Image.fromarray(np.array([[0, 32_768, 65_535]], np.uint16))
    assert pixels(content(grey))[0, :, 0].tolist() == [0, 128, 255]
    assert pixels(content(grey, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    assert (pixels(content(Image.new("1", (3, 3), 1))) == WHITE).all()
    assert np.abs(pixels(content(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")) - RED).max() < 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", r"the file is no image \(JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "the file is no image"),
        (content(NOISE, "JPEG")[:-200], "damaged or breaks off"),
        (content(NOISE)[:-400], "damaged or breaks off"),
        (png_of_size(20_000, 20_000), "too large to be decoded safely"),
        (png_of_size(10_000, 9_500), "too large to be decoded safely"),  # PIL only warns of this one
        (png_of_size(8_000, 8_000), "8000 x 8000 pixels, more than the 50,000,000"),
        (content(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating-point"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]), data=st.data())
def test_damaged_bytes_give_a_image_or_a_reason_and_nothing_else(kind, data):
    damaged = bytearray(content(NOISE, kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode_image(bytes(damaged)).mode == "RGB"
    except ImageError as error:
        assert str(error)


def test_a_size_is_refused_before_the_file_is_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(content(Image.new("RGB", (30, 20)))[:-30])  # would not decode either
    with pytest.raises(ImageError, match="30 x 20 pixels, more than the 500"):
        read_content(tmp_path / "a.png", max_pixels=500)
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "b.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


def catalog_of(*names: str | None) -> Catalog:
    return Catalog.from_rows([{"item_id": f"i{i}", "title": "t", "image": name} for i, name in enumerate(names)])


def test_images_lie_inside_the_data_folder(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    found = image_paths(catalog_of("images/a.jpg", None, "", "images/../images/b.jpg"), folder)
    assert [path and path.resolve().relative_to(folder.resolve()) for path in found] == [
        Path("images/a.jpg"), None, None, Path("images/b.jpg"),
    ]  # fmt: skip
    (folder / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    for outside in ("../secret.jpg", "/etc/passwd", "images/link.jpg", "images/../../data2/a.jpg", "a\0b"):
        with pytest.raises(DataError, match=r"item 'i1' is .* leads out of the data folder"):
            image_paths(catalog_of(None, outside), folder)
    with pytest.raises(DataError, match=r"no column 'image' \(it has: title"):
        image_paths(Catalog.from_rows([{"item_id": "1", "title": "t"}]), folder)


def test_a_pipe_instead_of_an_image_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no plain file"):
        read_content(tmp_path / "a.png")
