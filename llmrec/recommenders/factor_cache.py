"""Item factors kept on disk by what they were made from: fitting EASE-R takes I^3 (12,101 items: 40 s), reading milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from llmrec.data.interactions import Interactions
from llmrec.files import atomic_file, cache_dir, content_hash
from llmrec.recommenders.baselines import EaseR

VERSION = 1  # rises whenever EaseR.fit or EaseR.factors come to give other numbers


def cached_factors(ease_r: EaseR, interactions: Interactions, dim: int) -> np.ndarray:
    """`ease_r.fit(interactions).factors(dim)`, float32 (num_items, dim), fitted only where no earlier call has left it on disk.

    The file's name is a digest of users' items, lambda, dim and VERSION (recency does not enter the factors); it holds a digest of
    its numbers, and one that does not fit them is said to be damaged on standard error and made again.

    Raises:
        ConfigError: dim is above the number of items.
    """
    settings = f"version {VERSION}, lambda {ease_r.lambda_!r}, dim {dim}, items {interactions.num_items}"
    key = content_hash(settings, interactions.indptr, interactions.items)
    return kept_factors(cache_dir() / "ease_r" / f"{key}.safetensors", lambda: ease_r.fit(interactions).factors(dim))


def kept_factors(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The factors in `path`, or where there are none, or damaged ones, those that `make` gives, which are then kept there."""
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
    print(f"the kept item factors in '{path}' are damaged ({problem}); they are computed again", file=sys.stderr)
    return None
