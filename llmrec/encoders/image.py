"""Images to vectors by a real vision network: each image once, kept on disk by what the file holds and which model read it.

Letters: N items, U different images, B images of a batch, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from llmrec.data.images import MAX_PIXELS, ImageError, read_content, read_image
from llmrec.encoders import efficientnet, pretrained_vision
from llmrec.encoders.vector_cache import VectorCache
from llmrec.errors import DataError, ModelError
from llmrec.files import content_hash

DEFAULT_IMAGE_ENCODER = efficientnet.NAME
BATCH_SIZE = 8  # images; larger batches leave a CPU's cache
SHARD_SIZE = 512  # images that are encoded before they are written
PREPARATION = "1"  # raise it when the same image would come to other vectors

OnBroken = Literal["skip", "fail"]
Encode = Callable[[Sequence[Image.Image]], Tensor]
logger = logging.getLogger(__name__)


def encode_images(
    images: Sequence[Path | None],
    model: str = DEFAULT_IMAGE_ENCODER,
    *,
    item_ids: Sequence[str] | None = None,
    on_broken: OnBroken = "skip",
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of images, as the model gives them: float32 (N, D), zero where absent; and which are there: bool (N,).

    images: one file per item, None for an item without (absent, silently).
    model: "efficientnet-lite0", or a vision model for transformers: a folder or a name on the hub. Which vector it gives:
    `llmrec.encoders.pretrained_vision`.
    item_ids: how messages name the items; by default their positions.
    on_broken: what becomes of a file that is missing, damaged, no image, or has more than `max_pixels` pixels: "skip" makes the item
    absent and warns once for all, "fail" raises DataError for the first.

    Equal images are encoded once. Vectors are kept under the cache folder as soon as some hundreds are computed, so a run that was
    ended goes on, and a changed poster costs one image. Raises ModelError for a model that cannot be used.
    """
    broken = _Broken(images, item_ids, on_broken)
    keys = _content_keys(images, max_pixels, broken)
    unique = np.unique(keys[keys > 0])  # (U,)
    item_of = dict(zip(keys.tolist(), range(len(keys)), strict=True))  # of each content, an item that has it
    cache = VectorCache(cache_name(model))
    vectors, known = cache.find(unique)
    if vectors is None or not known.all():
        wanted = unique[~known]
        found, whole = _encode(wanted, [item_of[key] for key in wanted.tolist()], model, cache, max_pixels, broken)
        vectors = np.zeros((len(unique), found.shape[1]), np.float32) if vectors is None else vectors
        vectors[~known] = found
        for key in wanted[~whole].tolist():
            reason = broken.reasons[item_of[key]]
            for item in np.flatnonzero(keys == key).tolist():
                broken.add(item, reason)
    broken.warn()
    present = keys > 0
    present[list(broken.reasons)] = False
    result = np.zeros((len(images), vectors.shape[1]), np.float32)
    result[present] = vectors[np.searchsorted(unique, keys[present])]
    return result, present


def num_encoded(images: Sequence[Path | None], model: str = DEFAULT_IMAGE_ENCODER) -> int:
    """Of how many items the cache holds the image's vector by this model."""
    keys = _content_keys(images, MAX_PIXELS, _Broken(images, None, "skip"))
    unique = np.unique(keys[keys > 0])
    _, known = VectorCache(cache_name(model)).find(unique)
    return int(np.isin(keys, unique[known]).sum())


def cache_name(model: str) -> str:
    """The name of the model's vectors in the cache: its weights, and how images are prepared for it."""
    if model == efficientnet.NAME:
        identity = f"{model} {efficientnet.revision()}"
    else:
        identity = pretrained_vision.identity(model)
    return f"images-{content_hash(PREPARATION, identity)}"


class _Broken:
    """The images that cannot be used: collected, or the first of them raised."""

    def __init__(self, images: Sequence[Path | None], item_ids: Sequence[str] | None, on_broken: OnBroken) -> None:
        self.images, self.item_ids, self.on_broken = images, item_ids, on_broken
        self.reasons: dict[int, str] = {}  # item -> what is wrong

    def add(self, item: int, reason: str) -> None:
        if self.on_broken == "fail":
            raise DataError(
                f"the image of {self._named(item, reason)}. Mend or remove it, or let such items go without: on_broken 'skip'."
            )
        self.reasons[item] = reason

    def warn(self) -> None:
        if self.reasons:
            first = "; ".join(self._named(item, reason) for item, reason in sorted(self.reasons.items())[:3])
            more = len(self.reasons) - 3
            logger.warning(
                "%d of %d images cannot be used, and their items go without: %s%s",
                len(self.reasons), sum(path is not None for path in self.images), first, f"; and {more} more" if more > 0 else "",
            )  # fmt: skip

    def _named(self, item: int, reason: str) -> str:
        name = f"item {item}" if self.item_ids is None else f"item '{self.item_ids[item]}'"
        return f"{name}, '{self.images[item]}': {reason}"


def _content_keys(images: Sequence[Path | None], max_pixels: int, broken: _Broken) -> np.ndarray:
    """uint64 (N,): what the file of each item holds, its header checked; 0 where there is no usable file."""
    keys = np.zeros(len(images), np.uint64)
    for item, path in enumerate(images):
        if path is None:
            continue
        try:
            keys[item] = int(content_hash(read_content(path, max_pixels)), 16)
        except ImageError as error:
            broken.add(item, str(error))
    return keys


def _encode(
    keys: np.ndarray, items: list[int], model: str, cache: VectorCache, max_pixels: int, broken: _Broken
) -> tuple[np.ndarray, np.ndarray]:
    """keys: uint64 (U,), what `items` hold -> vectors float32 (U, D), zero where the image is damaged; which are whole, bool (U,)."""
    encode = _load(model)
    whole = np.zeros(len(keys), bool)
    written = 0
    starts = range(0, len(keys), BATCH_SIZE)
    console = Console(stderr=True)
    with torch.inference_mode():
        vectors = np.zeros((len(keys), _width(encode, model)), np.float32)
        for start in track(starts, f"encoding {len(keys)} images with {model}", console=console, transient=True):
            images = []
            for position in range(start, min(start + BATCH_SIZE, len(keys))):
                try:
                    images.append(_image(broken.images[items[position]], max_pixels))
                    whole[position] = True
                except ImageError as error:
                    broken.add(items[position], str(error))
            done = min(start + BATCH_SIZE, len(keys))
            if images:
                vectors[start:done][whole[start:done]] = encode(images).float().cpu().numpy()
            if done - written >= SHARD_SIZE or done == len(keys):
                part = np.flatnonzero(whole[written:done]) + written
                if len(part):
                    cache.add(keys[part], vectors[part])
                written = done
    return vectors, whole


def _width(encode: Encode, model: str) -> int:
    """D, found by trying."""
    try:
        return encode([Image.new("RGB", (64, 64))]).shape[1]
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"'{model}' makes no vector of an image alone ({reason}). Name a vision model.") from error


def _image(path: Path | None, max_pixels: int) -> Image.Image:
    assert path is not None  # its content has a key
    return read_image(path, max_pixels)


def _load(model: str) -> Encode:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model == efficientnet.NAME:
        return efficientnet.EfficientNetLite0(device).encode
    return pretrained_vision.VisionModel(model, device).encode
