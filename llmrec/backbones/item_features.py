"""The features that semantic IDs are made from: encoded texts of the catalogue, matrices by name, or several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.backbones.text_encoder import encode_texts
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features

TEXT = "text"


def source_matrices(
    sources: Sequence[str], catalog: Catalog, features: Features, *, encoder: str | None, fields: Sequence[str] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One matrix a source, float32 (N, D_f), and which items it knows, bool (N,).

    sources: "text", or names of `features`. encoder, fields: what encodes which columns of the catalogue where "text" is asked
    for. Raises DataError for names or fields that are not there, ModelError for an encoder that cannot be used.
    """
    matrices, present = [], []
    for source in sources:
        if source == TEXT:
            matrices.append(encode_texts(catalog.texts(fields), encoder))
            present.append(np.ones(catalog.num_items, bool))
        else:
            matrices.append(features[source])
            present.append(features.present[source])
    return matrices, present
