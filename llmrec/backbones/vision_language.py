"""Images to a vision-language model's own vision tokens: seen once, kept on disk by what the file holds and which model saw it.

The vision tower is frozen, so what it makes of an image never changes: prompts hold ids (`llmrec.items.forms`), and their
vectors are read from here. The tower runs once per catalogue, not once per step.

Letters: N items, B images of a batch, M vision tokens of an image, P of all, L deep layers, D width.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.image_families import image_family, image_words, processor_arguments, vision_parts
from llmrec.backbones.model_files import loading
from llmrec.backbones.vision_cache import EncodedImage, VisionCache
from llmrec.data.images import ImageError, decode_image, read_content
from llmrec.errors import ArtifactError, DataError
from llmrec.files import atomic_file, content_hash
from llmrec.items.forms import ItemSequences, image_sequences
from llmrec.nn.image_tokens import ImageTokens

MAX_TOKENS = 64  # vision tokens of an image: a history of ten images is then a prompt of a few hundred
BATCH_SIZE = 8  # images the vision tower sees together
SHARD_SIZE = 256  # images that are encoded before they are written
PREPARATION = "1"  # raise it when the same image would come to other vectors
_MAX_ASPECT = 200  # what Qwen's processors take

OnBroken = Literal["skip", "fail"]
logger = logging.getLogger(__name__)


def encode_vision_tokens(
    backbone: Backbone,
    images: Sequence[Path | None],
    *,
    max_tokens: int = MAX_TOKENS,
    item_ids: Sequence[str] | None = None,
    on_broken: OnBroken = "skip",
) -> ImageTokens:
    """The vision tokens of the items' images, as the backbone's own vision tower makes them.

    images: one file per item, None for an item without (silently). max_tokens: vision tokens of an image at most; Qwen's models
    shrink an image until it fits, the others have a fixed number and are refused below it.
    item_ids: how messages name the items; by default their positions. on_broken: what becomes of a file that is missing, damaged, no
    image, or far too long: "skip" leaves the item without an image and warns once for all, "fail" raises DataError for the first.

    Equal images are seen once. Raises ModelError for a backbone that cannot see, DataError where no item has an image.
    """
    processor = _load_processor(backbone)
    arguments = processor_arguments(backbone, processor, max_tokens)
    max_aspect = min(max_tokens, _MAX_ASPECT) if image_family(backbone).has_grid else None
    keys, broken = _keys(images)  # item -> key, item -> reason
    cache = VisionCache(_identity(backbone, processor, arguments))
    encoded = cache.find(set(keys.values()))
    files = {key: images[item] for item, key in keys.items() if key not in encoded}
    damaged = _encode_files(backbone, processor, arguments, files, max_aspect, cache, encoded)
    broken |= {item: damaged[key] for item, key in keys.items() if key in damaged}
    _report(broken, images, item_ids, on_broken)
    of_item = {item: encoded[key] for item, key in keys.items() if key in encoded}
    if not of_item:
        raise DataError(
            f"expected images of the items, but none of the {len(images)} items has one that can be read. Prepare the data from "
            "items with a column `image`, or choose another form."
        )
    return _side_by_side(backbone, of_item, len(images), max_tokens)


def vision_sequences(backbone: Backbone) -> ItemSequences:
    """How prompts show every item's image; empty for an item without. Item table and images have to be in the backbone."""
    offsets = backbone.vector_tokens[IMAGES].offsets
    return image_sequences(offsets, backbone.first_vector_id(IMAGES), *image_words(backbone))


def save_vision_tokens(images: ImageTokens, path: Path) -> None:
    """Writes the vision tokens of a catalogue as one safetensors file: a run that goes elsewhere needs neither images nor tower."""
    numbers = {"offsets": torch.from_numpy(images.offsets), "grids": torch.from_numpy(images.grids)}
    vectors = {"vectors": images.vectors.contiguous(), "deep": images.deep.contiguous()}
    with atomic_file(path) as temporary:
        save_file({**numbers, **vectors, "has_grid": torch.tensor(images.has_grid)}, temporary)


def load_vision_tokens(path: Path, backbone: Backbone, num_items: int) -> ImageTokens:
    """What `save_vision_tokens` wrote. Raises ArtifactError where it is broken, or of another model or catalogue."""
    try:
        saved = load_file(path)
        numbers = {name: saved[name].numpy() for name in ("offsets", "grids")}
        images = ImageTokens(saved["vectors"], **numbers, deep=saved["deep"], has_grid=bool(saved["has_grid"]))
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(
            f"'{path}' is not a whole file of images' vision tokens ({error}). Save the run again."
        ) from error
    found = (images.vectors.shape[1], images.has_grid, len(images.grids))
    expected = (backbone.dim, image_family(backbone).has_grid, num_items)
    if found != expected:
        raise ArtifactError(
            f"the vision tokens in '{path}' are (width, positions on three axes, items) {found}, but {backbone.source.name} and the "
            f"catalogue have {expected}. They belong to another run."
        )
    return images.to(backbone.device)


def vision_features(images: ImageTokens) -> tuple[np.ndarray, np.ndarray]:
    """The mean vision token of every image: float32 (N, D), zero where there is none; and who has one: bool (N,).

    As the feature "vision" they go through the semantic adapter, which makes a few soft tokens of an image.
    """
    counts = np.diff(images.offsets)  # (N,)
    owner = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    vectors = images.vectors.detach().float().cpu()
    sums = torch.zeros(len(counts), vectors.shape[1]).index_add_(0, owner, vectors)
    return sums.numpy() / np.maximum(counts, 1)[:, None].astype(np.float32), counts > 0


def _load_processor(backbone: Backbone) -> Any:
    image_family(backbone)  # before the folder is searched for what a model of words does not have
    from transformers import AutoImageProcessor

    with loading(f"an image processor with {backbone.source.name}"):
        # PIL's: the other kind needs torchvision
        return AutoImageProcessor.from_pretrained(backbone.source.path, backend="pil", **backbone.source.loading)


def _keys(images: Sequence[Path | None]) -> tuple[dict[int, int], dict[int, str]]:
    """Item -> int64 key of its image's content, and item -> what is wrong with its file."""
    keys, broken = {}, {}
    for item, path in enumerate(images):
        if path is None:
            continue
        try:
            keys[item] = int(content_hash(read_content(path)), 16) - 2**63
        except ImageError as error:
            broken[item] = str(error)
    return keys, broken


def _encode_files(
    backbone: Backbone,
    processor: Any,
    arguments: dict[str, Any],
    files: dict[int, Path],
    max_aspect: int | None,
    cache: VisionCache,
    encoded: dict[int, EncodedImage],
) -> dict[int, str]:
    """Encodes the files, key -> path, into `encoded` and the cache; key -> reason of those that cannot be."""
    damaged: dict[int, str] = {}
    waiting: list[int] = []  # keys encoded and not yet written
    todo = list(files)
    starts = range(0, len(todo), BATCH_SIZE)
    what = f"{backbone.source.name} looks at {len(todo)} images"
    for start in track(starts, what, console=Console(stderr=True), transient=True):
        images: dict[int, Image.Image] = {}
        for key in todo[start : start + BATCH_SIZE]:
            try:
                images[key] = _open(files[key], max_aspect)
            except ImageError as error:
                damaged[key] = str(error)
        if images:
            encoded |= zip(images, _encode(backbone, processor, arguments, list(images.values())), strict=True)
            waiting += images
        if waiting and (len(waiting) >= SHARD_SIZE or start == starts[-1]):
            cache.add(waiting, [encoded[key] for key in waiting])
            waiting = []
    return damaged


def _open(path: Path, max_aspect: int | None) -> Image.Image:
    image = decode_image(read_content(path))
    if max_aspect is not None and max(image.size) > max_aspect * min(image.size):
        raise ImageError(
            f"the image has {image.width} x {image.height} pixels, and one side may be {max_aspect} times the other at most"
        )
    return image


@torch.no_grad()
def _encode(
    backbone: Backbone, processor: Any, arguments: dict[str, Any], images: list[Image.Image]
) -> list[EncodedImage]:
    """What the vision tower makes of B images, on the CPU."""
    inputs = processor(images=images, return_tensors="pt", **arguments)
    was_training = backbone.training
    backbone.eval()
    output = backbone.causal_lm.base_model.get_image_features(**inputs.to(backbone.device), return_dict=True)
    backbone.train(was_training)
    family = image_family(backbone)
    encoded = []
    for index, vectors in enumerate(output.pooler_output):  # (M, D)
        deep = [layer[index] for layer in output.deepstack_features] if family.is_deep else []
        if family.has_grid:
            grid = inputs["image_grid_thw"][index, 1:].cpu() // processor.merge_size
        else:
            grid = torch.tensor([1, len(vectors)])
        stacked = torch.stack(deep) if deep else vectors[None, :][:0]
        encoded.append(EncodedImage(grid, vectors.to("cpu", backbone.dtype), stacked.to("cpu", backbone.dtype)))
    return encoded


def _side_by_side(backbone: Backbone, of_item: dict[int, EncodedImage], num_items: int, max_tokens: int) -> ImageTokens:
    grids = np.zeros((num_items, 2), np.int64)
    for item, image in of_item.items():
        grids[item] = image.grid.numpy()
    counts = grids.prod(axis=1)
    assert counts.max() <= max_tokens, (counts.max(), max_tokens)
    in_order = [of_item[item] for item in sorted(of_item)]
    tokens = ImageTokens(
        torch.cat([image.vectors for image in in_order]),
        np.concatenate([[0], counts.cumsum()]),
        grids,
        deep=torch.cat([image.deep for image in in_order], dim=1),
        has_grid=image_family(backbone).has_grid,
    )
    return tokens.to(backbone.device)


def _report(
    broken: dict[int, str], images: Sequence[Path | None], item_ids: Sequence[str] | None, on_broken: OnBroken
) -> None:
    """One warning for all broken images, or a DataError for the first."""
    if not broken:
        return
    first = min(broken)
    name = item_ids[first] if item_ids is not None else first
    example = f"item '{name}' ({images[first]}): {broken[first]}"
    if on_broken == "fail":
        raise DataError(f"the image of {example}. Repair or remove it, or let broken images be skipped.")
    logger.warning("%d of %d images cannot be used and are left out; %s", len(broken), len(images), example)


def _identity(backbone: Backbone, processor: Any, arguments: dict[str, Any]) -> str:
    """What tells vision tokens of this model from others: numbers of its vision tower's weights, and how images are prepared."""
    parts: list[str | np.ndarray] = [PREPARATION, str(backbone.dtype), processor.to_json_string()]
    parts.append(json.dumps(arguments, sort_keys=True))
    for name, part in vision_parts(backbone).items():
        for inner, weight in part.named_parameters():
            sample = weight.detach().flatten()[:: max(1, weight.numel() // 64)].float().cpu().numpy()
            parts += [f"{name}.{inner} {tuple(weight.shape)}", sample]
    return content_hash(*parts)
