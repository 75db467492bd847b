"""Vectors on disk by the content they were computed from: a folder of shards, each written once and whole.

A run that is killed leaves its finished shards, two runs at a time never write the same file, and a broken shard is as good as none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.files import atomic_file, cache_dir, content_hash


class VectorCache:
    """The vectors that one model gave. name: what tells this model and its preparation of the input from every other."""

    def __init__(self, name: str) -> None:
        self.folder = cache_dir() / "features" / name

    def find(self, keys: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """keys: uint64 (U,) -> vectors float32 (U, D), zero where unknown (None where no vector is known), known bool (U,)."""
        vectors, known = None, np.zeros(len(keys), bool)
        for path in sorted(self.folder.glob("*.safetensors")):
            shard = _shard(path)
            if shard is None:
                continue
            found, positions, rows = np.intersect1d(keys, shard["keys"], return_indices=True)
            if not len(found):
                continue
            if vectors is None:
                vectors = np.zeros((len(keys), shard["vectors"].shape[1]), np.float32)
            vectors[positions], known[positions] = shard["vectors"][rows], True
        return vectors, known

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """keys: uint64 (U,), different ones; vectors: float32 (U, D)."""
        with atomic_file(self.folder / f"{content_hash(keys)}.safetensors") as temporary:
            save_file({"keys": keys, "vectors": np.ascontiguousarray(vectors)}, temporary)


def _shard(path: Path) -> dict[str, np.ndarray] | None:
    try:
        shard = load_file(path)
    except (OSError, SafetensorError):
        return None
    whole = set(shard) == {"keys", "vectors"} and len(shard["keys"]) == len(shard["vectors"])
    return shard if whole else None
