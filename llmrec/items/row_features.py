"""What item embeddings start from: the features of the items that are written with them."""

from __future__ import annotations

import numpy as np

from llmrec.items.forms import ItemTokens


def row_features(item_tokens: ItemTokens, features: np.ndarray) -> np.ndarray:
    """The mean of the features of the items that use each embedding: float32 (num_items, F) -> float32 (R, F).

    For unique ids this is the item's own features; for semantic ids the centre of a code's items, in any feature space. Features are
    centred first, so that a code many unlike items share starts near zero and not at what all items have in common. Rows no item uses
    are zero.
    """
    features = np.asarray(features, dtype=np.float32)
    assert len(features) == item_tokens.num_items, (features.shape, item_tokens.num_items)
    known = np.abs(features).sum(axis=1) > 0
    features = np.where(
        known[:, None], features - features[known].mean(axis=0, keepdims=True) if known.any() else features, 0
    )
    sums = np.zeros((item_tokens.num_rows, features.shape[1]), dtype=np.float32)
    counts = np.zeros(item_tokens.num_rows, dtype=np.float32)
    for position in range(item_tokens.max_length):
        rows = item_tokens.sequences[:, position] - item_tokens.base_vocab_size
        used = (rows >= 0) & known
        np.add.at(sums, rows[used], features[used])
        np.add.at(counts, rows[used], 1)
    return sums / np.maximum(counts, 1)[:, None]


def nearest_seen(features: np.ndarray, seen: np.ndarray, num_neighbours: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """For each unseen item the seen items most like it: unseen int64 (C,), neighbours int64 (C, num_neighbours), nearest first.

    An item nobody has touched has no trained embedding; the mean of its neighbours' is a better guess than what it started from
    (content neighbours as in the cold-start baselines of CLCRec, Wei et al. 2021).

    Args:
        features: float32 (num_items, F), compared by cosine.
        seen: bool (num_items,).
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    unseen, known = np.flatnonzero(~seen), np.flatnonzero(seen)
    similarity = unit[unseen] @ unit[known].T  # (C, number seen)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :num_neighbours]
    return unseen, known[nearest]
