"""Item vectors from who met what, of any kind, kept on disk: the "collaborative" features of a split's training events."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
from llmrec.files import cache_dir, content_hash
from llmrec.recommenders.baselines import EaseR
from llmrec.recommenders.factor_cache import cached_factors, kept_factors
from llmrec.recommenders.matrix_factorisation import MatrixFactorisation
from llmrec.recommenders.sasrec import SasRecRecommender, SasRecSettings

CollaborativeKind = Literal["ease_r", "sasrec", "matrix_factorisation"]
VERSION = 1  # rises whenever SasRecRecommender.fit or MatrixFactorisation.fit come to give other numbers


def collaborative_factors(
    kind: CollaborativeKind,
    train: Interactions,
    dim: int,
    *,
    seed: int = 0,
    sasrec: SasRecSettings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the items and which items have one: float32 (num_items, dim), bool (num_items,).

    train: only events that may be fitted, or the vectors leak what is asked for. An item without an event has no vector: its row is
    zero and absent. seed: of SASRec and of the factorisation; EASE-R has none. sasrec: SASRec's settings, whose dim gives way to
    `dim`. Read from the cache where an earlier call with the same events and settings has left them.

    Raises:
        ConfigError: an unknown kind, or a dim that the kind cannot have.
        DataError: nothing to learn from.
    """
    present = train.counts() > 0
    if kind == "ease_r":
        return _absent_rows_zero(cached_factors(EaseR(), train, dim), present), present
    if kind == "sasrec":
        settings = SasRecSettings.model_validate({**(sasrec or SasRecSettings()).model_dump(), "dim": dim})
        model = SasRecRecommender(settings, seed=seed)
    elif kind == "matrix_factorisation":
        model = MatrixFactorisation(dim, seed=seed)
    else:
        raise ConfigError(
            f"collaborative factors are of the kind {', '.join(get_args(CollaborativeKind))}, not '{kind}'."
        )
    key = content_hash(
        f"version {VERSION}, {sorted(model.card.items())}, items {train.num_items}", train.indptr, train.items
    )
    path = cache_dir() / kind / f"{key}.safetensors"
    factors = kept_factors(path, lambda: model.fit(train).factors())
    return _absent_rows_zero(factors, present), present


def _absent_rows_zero(factors: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present[:, None], factors, np.float32(0))
