"""Item vectors from who met what, of any kind, kept on disk: the "collaborative" features of a split's training events."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from llmrec.baselines.ease_r import LowRankEaseR
from llmrec.baselines.embedding_cache import kept_embeddings
from llmrec.baselines.ials import Ials
from llmrec.baselines.sasrec import SasRecRecommender
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
from llmrec.files import cache_dir, content_hash
from llmrec.sequential.settings import SasRecSettings

CollaborativeKind = Literal["ease_r", "sasrec", "matrix_factorisation"]
VERSION = 4  # rises whenever a kind's item embeddings come to be other numbers


def collaborative_embeddings(
    kind: CollaborativeKind,
    train: Interactions,
    dim: int,
    *,
    seed: int = 0,
    sasrec: SasRecSettings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the items and which items have one: float32 (num_items, dim), bool (num_items,).

    train: only events that may be fitted, or the vectors leak what is asked for. An item without an event has no vector: its row is
    zero and absent. seed: of SASRec and of the factorisation; EASE-R has none. sasrec: SASRec's settings, whose dim and seed give way
    to these. Read from the cache where an earlier call with the same events and settings has left them.

    Raises:
        ConfigError: an unknown kind, or a dim that the kind cannot have.
        DataError: nothing to learn from.
    """
    present = train.counts() > 0
    if kind == "ease_r":
        if not 1 <= dim <= train.num_items:
            raise ConfigError(f"EASE-R has embeddings of 1 to {train.num_items} dimensions (one per item), not {dim}.")
        model = LowRankEaseR(dim=dim)
    elif kind == "sasrec":
        model = SasRecRecommender(**{**dict(sasrec or SasRecSettings()), "dim": dim, "seed": seed})
    elif kind == "matrix_factorisation":
        model = Ials(dim=dim, alpha=10.0, seed=seed)
    else:
        raise ConfigError(
            f"collaborative embeddings are of the kind {', '.join(get_args(CollaborativeKind))}, not '{kind}'."
        )
    key = content_hash(
        f"version {VERSION}, {sorted(model.card.items())}, items {train.num_items}", train.indptr, train.items
    )
    path = cache_dir() / kind / f"{key}.safetensors"
    return kept_embeddings(path, lambda: _absent_rows_zero(model.fit(train).item_embeddings(), present)), present


def _absent_rows_zero(factors: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present[:, None], factors, np.float32(0))
