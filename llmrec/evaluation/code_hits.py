"""Hits by codes, beside hits by items: what a list of semantic ids looks like to who takes items that share codes for one.

llmrec's semantic ids are unique: where features collide, the last level tells items apart (`llmrec.items.unique_codes`). So a hit here
is an item that has the target's codes on all levels but the last, which is never fewer hits than by items, and no measure of quality.
Published figures of systems that keep collisions are of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmrec.artifacts.run_folder import find_model, read_manifest
from llmrec.items.semantic_ids import SemanticIDs


def shared_codes(semantic_ids: SemanticIDs) -> np.ndarray:
    """Of each item a number that items share whose codes differ on the last level alone: int64 (N,); one for all of a single level."""
    _, numbers = np.unique(semantic_ids.codes[:, :-1], axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def code_hits(items: np.ndarray, targets: np.ndarray, codes: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """ "code_recall@k" -> float64 (U,): 1 where one of the first k items has the target's codes, else 0.

    items: int (U, K) lists, padded with -1; targets: int (U,); codes: of `shared_codes`.
    """
    width = max(ks)
    assert items.shape[1] >= width, (items.shape, ks)
    hit = (items >= 0) & (codes[items] == codes[targets][:, None])  # (U, K)
    return {f"code_recall@{k}": hit[:, :k].any(axis=1).astype(np.float64) for k in ks}


def codes_of(run: Path) -> np.ndarray | None:
    """`shared_codes` of a run of semantic ids; None of a run of another item form."""
    if read_manifest(run).get("form") != "semantic_id":
        return None
    return shared_codes(SemanticIDs.load(find_model(run) / "semantic_ids"))
