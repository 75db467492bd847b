"""A longer list, steered, made diverse, and cut to k: the one way from a ranker's order to another one.

Letters: U requests, P items of the longer list, k returned, M items that have a preferred value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from llmrec.data.interactions import Histories
from llmrec.errors import RequestError
from llmrec.recommenders.diversity import MMR, POOL, SSD, diverse_places, scaled_relevance
from llmrec.recommenders.requests import DenseRecommender, Ranker, Ranking, Requests
from llmrec.recommenders.rules import is_among
from llmrec.recommenders.steering import SteeredItems, steered_relevance

LONGEST = 20_000  # items of a dense recommender's list in which preferred values are looked for
LISTS_A_CALL = 32  # diversity compares every item of a list with every other

ItemVectors = Callable[[np.ndarray], np.ndarray]


def without_disliked(requests: Requests, steering: Sequence[SteeredItems | None]) -> Requests:
    """The requests, in which nobody may receive what they dislike."""
    if not any(own is not None and len(own.disliked) for own in steering):
        return requests
    closed = [[] if own is None else own.disliked.tolist() for own in steering]
    if requests.excluded is not None:
        closed = [[*requests.excluded[row].tolist(), *more] for row, more in enumerate(closed)]
    return replace(requests, excluded=Histories.from_lists(closed))


def reranked(
    ranker: Ranker,
    requests: Requests,
    k: int,
    num_left: int,
    *,
    exclude_seen: bool,
    diversity: MMR | SSD | None,
    steering: Sequence[SteeredItems | None],
    item_vectors: ItemVectors | None,
) -> Ranking:
    """The k items of each request as its steering and then diversity order them, with the ranker's own scores (no longer falling).

    num_left: the most items that rules leave to one request. steering: one per request. item_vectors: see `Recommender`. A request that
    neither is for receives the ranker's list. Raises RequestError where vectors are needed and there are none.
    """
    _check_vectors(diversity, steering, item_vectors)
    is_plain = np.array([diversity is None and own is None for own in steering], dtype=bool)
    if is_plain.all():
        return ranker.rank(requests, k, exclude_seen=exclude_seen)
    rows = np.flatnonzero(~is_plain)
    wished = [steering[row] for row in rows]
    listed = _longer_list(ranker, requests.take(rows), k, num_left, wished, exclude_seen=exclude_seen)
    parts = []
    for start in range(0, len(rows), LISTS_A_CALL):
        part = slice(start, start + LISTS_A_CALL)
        parts.append(
            _reordered(Ranking(listed.items[part], listed.scores[part]), k, diversity, wished[part], item_vectors)
        )
    plain = np.flatnonzero(is_plain)
    if len(plain):  # by its own list, as alone: a wider beam search finds others
        parts.append(ranker.rank(requests.take(plain), k, exclude_seen=exclude_seen))
    order = np.argsort(np.concatenate([rows, plain]))
    return Ranking(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in ("items", "scores")))


def _reordered(
    listed: Ranking,
    k: int,
    diversity: MMR | SSD | None,
    steering: Sequence[SteeredItems | None],
    item_vectors: ItemVectors | None,
) -> Ranking:
    is_compared = diversity is not None or any(own is not None and own.needs_vectors for own in steering)
    vectors = item_vectors(listed.items) if is_compared else None  # (U, P, D)
    relevance = steered_relevance(scaled_relevance(listed, POOL * k), listed, k, steering, vectors, item_vectors)
    if diversity is None:
        allowed = listed.items >= 0
        order = np.argsort(np.where(allowed, -relevance, np.inf), axis=1, kind="stable")[:, :k]
        places = np.where(np.take_along_axis(allowed, order, axis=1), order, -1)
    else:
        places = diverse_places(listed, relevance, vectors, diversity, k)
    return listed.at(places)


def _longer_list(
    ranker: Ranker,
    requests: Requests,
    k: int,
    num_left: int,
    steering: Sequence[SteeredItems | None],
    *,
    exclude_seen: bool,
) -> Ranking:
    """The best POOL * k of each request, and beside them the best k that have each value it prefers; the ranker's order, (U, P).

    Without these a rare value could hardly lean on a list. Who scores the whole catalogue is asked once, for more; who searches is
    asked again, among the items that have the value.
    """
    pool, wishes = min(POOL * k, num_left), [() if own is None else own.prefer for own in steering]
    if not any(wishes):
        return ranker.rank(requests, pool, exclude_seen=exclude_seen)
    if isinstance(ranker, DenseRecommender):
        listed = ranker.rank(requests, min(max(pool, LONGEST), num_left), exclude_seen=exclude_seen)
        return listed.at(_padded([_kept(*row, pool, k) for row in zip(listed.items, wishes, strict=True)]))
    listed = ranker.rank(requests, pool, exclude_seen=exclude_seen)
    rows, asked = _among_preferred(requests, wishes)
    return _merged(listed, rows, ranker.rank(asked, k, exclude_seen=exclude_seen)) if rows else listed


def _kept(items: np.ndarray, prefer: Sequence[np.ndarray], pool: int, k: int) -> np.ndarray:
    """The first `pool` places of a list, and for each preferred value the first k that have it: int64, ascending."""
    kept = np.arange(len(items)) < pool
    for having in prefer:
        kept[np.flatnonzero(is_among(items, having))[:k]] = True
    return np.flatnonzero(kept & (items >= 0))


def _among_preferred(requests: Requests, wishes: Sequence[Sequence[np.ndarray]]) -> tuple[list[int], Requests]:
    """For each preferred value a request that chooses among the items that have it; and whose request each one is."""
    rows, choices = [], []
    for row, (prefer, choice) in enumerate(zip(wishes, requests.choices(), strict=True)):
        for having in prefer:
            among = having if choice is None else having[is_among(having, choice)]
            if len(among):
                rows.append(row)
                choices.append(among)
    return rows, replace(requests.take(np.array(rows, dtype=np.int64)), candidates=choices)


def _merged(listed: Ranking, rows: Sequence[int], more: Ranking) -> Ranking:
    """Each list with the items of `more` that are its request's: by score, each item once."""
    items, scores = list(listed.items), list(listed.scores)
    for row, other_items, other_scores in zip(rows, more.items, more.scores, strict=True):
        is_new = ~np.isin(other_items, items[row])
        items[row] = np.concatenate([items[row], other_items[is_new]])
        scores[row] = np.concatenate([scores[row], other_scores[is_new]])
    width = max(map(len, items))
    whole = Ranking(
        np.stack([np.pad(row, (0, width - len(row)), constant_values=-1) for row in items]),
        np.stack([np.pad(row, (0, width - len(row)), constant_values=-np.inf) for row in scores]),
    )
    is_item = whole.items >= 0
    order = np.lexsort((-whole.scores, ~is_item), axis=1)  # of equal scores the list's own first
    return whole.at(np.where(np.take_along_axis(is_item, order, axis=1), order, -1))


def _padded(places: Sequence[np.ndarray]) -> np.ndarray:
    """Rows side by side, padded with -1: int64 (U, P)."""
    padded = np.full((len(places), max(map(len, places))), -1, dtype=np.int64)
    for row, own in enumerate(places):
        padded[row, : len(own)] = own
    return padded


def _check_vectors(
    diversity: MMR | SSD | None, steering: Sequence[SteeredItems | None], item_vectors: ItemVectors | None
) -> None:
    if item_vectors is not None:
        return
    compared = [own for own in steering if own is not None and own.needs_vectors]
    if diversity is None and not compared:
        return
    what = (
        "diversity"
        if diversity is not None
        else "likeness to disliked items"
        if len(compared[0].disliked)
        else "surprise"
    )
    raise RequestError(
        f"{what} needs vectors of the items, and this recommender was made in memory without any. "
        "Give it some: Recommender(..., item_vectors=matrix.__getitem__)."
    )
