"""Item embeddings kept on disk by what they were made from: fitting takes seconds to minutes, reading milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from llmrec.files import atomic_file, content_hash


def kept_embeddings(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The embeddings in `path`, or where there are none, or damaged ones, those that `make` gives, which are then kept there."""
    factors = _read(path) if path.exists() else None
    if factors is None:
        factors = np.ascontiguousarray(make())  # safetensors writes memory as it lies
        with atomic_file(path) as temporary:
            save_file({"factors": factors}, temporary, metadata={"digest": content_hash(factors)})
    return factors


def _read(path: Path) -> np.ndarray | None:
    try:
        with safe_open(path, framework="np") as file:
            factors = file.get_tensor("factors")
            digest = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError) as error:
        problem = str(error).strip() or type(error).__name__
    else:
        if digest == content_hash(factors):
            return factors
        problem = "its numbers are not those that were written"
    print(f"the cached item embeddings in '{path}' are damaged ({problem}); they are computed again", file=sys.stderr)
    return None
