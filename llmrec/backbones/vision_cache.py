"""Vision tokens of images on disk, by what the image files hold: a folder of shards, each written once and whole.

Images have different numbers of tokens, so a shard is their vectors one after another and how many belong to each.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec.files import atomic_file, cache_dir, content_hash

_NAMES = {"keys", "grids", "vectors", "deep"}


@dataclass(frozen=True)
class EncodedImage:
    """grid: int64 (2,), its rows and columns of tokens. vectors: (M, D), one per token. deep: (L, M, D), see `ImageTokens`."""

    grid: Tensor
    vectors: Tensor
    deep: Tensor


class VisionCache:
    """The vision tokens that one model made. name: what tells this model and its preparation of images from every other."""

    def __init__(self, name: str) -> None:
        self.folder = cache_dir() / "vision_tokens" / name

    def find(self, keys: Set[int]) -> dict[int, EncodedImage]:
        """The images that are known, by key; keys are int64."""
        found: dict[int, EncodedImage] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            shard = _shard(path)
            if shard is None or keys.isdisjoint(shard["keys"].tolist()):
                continue
            counts = shard["grids"].prod(dim=1).tolist()
            vectors, deep = shard["vectors"].split(counts), shard["deep"].split(counts, dim=1)
            for position, key in enumerate(shard["keys"].tolist()):
                if key in keys:
                    found[key] = EncodedImage(shard["grids"][position], vectors[position], deep[position])
        return found

    def add(self, keys: Sequence[int], images: Sequence[EncodedImage]) -> None:
        """Writes one shard of images, different ones."""
        shard = {
            "keys": torch.tensor(keys, dtype=torch.int64),
            "grids": torch.stack([image.grid for image in images]),
            "vectors": torch.cat([image.vectors for image in images]),
            "deep": torch.cat([image.deep for image in images], dim=1),
        }
        with atomic_file(self.folder / f"{content_hash(str(list(keys)))}.safetensors") as temporary:
            save_file(shard, temporary)


def _shard(path: Path) -> dict[str, Tensor] | None:
    """What a file holds; None where it is broken, and so as good as not there."""
    try:
        shard = load_file(path)
    except (OSError, SafetensorError):
        return None
    whole = set(shard) == _NAMES and len(shard["keys"]) == len(shard["grids"])
    return shard if whole and int(shard["grids"].prod(dim=1).sum()) == len(shard["vectors"]) else None
