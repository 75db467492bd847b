"""What another image of an item changes, measured: its soft tokens, those of the other items, its score and rank, the list.

Letters: N items, Q soft tokens per item, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.nn import functional as F

from llmrec.artifacts.item_sources import language_model_of, soft_tokens_of_images
from llmrec.explain.evidence import Recommended, Recommends
from llmrec.recommenders.generative import OneTokenRecommender
from llmrec.recommenders.requests import Ranker


class ReplacesImages(Recommends, Protocol):
    """`llmrec.Recommender`, and anything that answers as it does."""

    ranker: Ranker

    def score(self, history: Sequence[str], candidates: Sequence[str]) -> list[float]: ...

    def replace_image(self, item_id: str, image: Path) -> None: ...


@dataclass(frozen=True)
class ImageChange:
    """Before and after, in this order where there are two.

    token_cosine: of the item's soft tokens, end to end; token_length_ratio: after to before; others_moved: the largest difference in
    any number of any other item's soft tokens, 0.0 where they stayed. scores: the item's own for the history. ranks: its ranks, 1 the
    best, items of the history counted; None where it is not among the `num_ranked` items that were ranked. lists: the best k.
    """

    token_cosine: float
    token_length_ratio: float
    others_moved: float
    scores: tuple[float, float]
    ranks: tuple[int | None, int | None]
    num_ranked: int
    lists: tuple[list[Recommended], list[Recommended]]


def change_image(recommender: ReplacesImages, item_id: str, image: Path, history: Sequence[str], k: int) -> ImageChange:
    """Replaces the image in memory, and says what that changed. Raises what `Recommender.replace_image` raises."""
    soft = soft_tokens_of_images(language_model_of(recommender.ranker))
    item = int(recommender.catalog.index([item_id])[0])
    # the whole catalogue is one pass for answers of one token, and a search as wide as it is for others
    num_ranked = recommender.catalog.num_items if isinstance(recommender.ranker, OneTokenRecommender) else k

    def measured() -> tuple[torch.Tensor, float, int | None, list[Recommended]]:
        with torch.no_grad():
            tokens = soft(slice(None))  # (N, Q, D)
        score = recommender.score(history, [item_id])[0]
        ranked = [found.item_id for found in recommender.recommend(history, num_ranked, exclude_seen=False)]
        rank = ranked.index(item_id) + 1 if item_id in ranked else None
        return tokens, score, rank, recommender.recommend(history, k)

    before = measured()
    recommender.replace_image(item_id, image)
    after = measured()
    old, new = before[0][item].flatten(), after[0][item].flatten()
    moved = (after[0] - before[0]).abs().amax(dim=(1, 2))  # (N,)
    moved[item] = 0.0
    return ImageChange(
        token_cosine=float(F.cosine_similarity(old, new, dim=0)),
        token_length_ratio=float(new.norm() / old.norm()),
        others_moved=float(moved.max()),
        scores=(before[1], after[1]),
        ranks=(before[2], after[2]),
        num_ranked=num_ranked,
        lists=(before[3], after[3]),
    )
