"""Result diversity: a longer list re-ordered so that likeness counts against an item, and cut to k.

| method | the next item is the one with the largest | source |
|---|---|---|
| `MMR(weight)` | (1 - weight) relevance - weight max cosine with what was chosen | Carbonell and Goldstein, SIGIR 1998 |
| `SSD(gamma, window)` | relevance + gamma length of what its vector adds to the last window - 1 chosen | Huang et al., KDD 2021 |

(The first one's lambda is 1 - weight.) Weight 0 and gamma 0 leave the ranking as it is. Relevance is the ranker's score, scaled to
0..1 over each request's list, so that a weight means the same for log-probabilities and for counts.

Letters: U requests, P items of the longer list, D width of the items' vectors, k chosen, w the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from llmrec.arguments import is_count
from llmrec.errors import ConfigError
from llmrec.recommenders.requests import Ranking

if TYPE_CHECKING:
    from llmrec.recommenders.language_model import LanguageModel

_ITEMS_AT_ONCE = 1024  # items whose token embeddings stand in memory together
POOL = 5  # items asked for, for each one that is returned
_NOTHING_NEW = 1e-6  # a vector's part outside the window's span that counts as rounding, of vectors of length 1


@dataclass(frozen=True)
class MMR:
    """Maximal marginal relevance: every item is held against all that stand above it."""

    weight: float = 0.3

    def __post_init__(self) -> None:
        if not (isinstance(self.weight, Real) and 0 <= self.weight <= 1):
            raise ConfigError(f"the weight of MMR is from 0 (the ranking as it is) to 1, but it is {self.weight!r}.")

    def __str__(self) -> str:
        return f"mmr:{self.weight:g}"


@dataclass(frozen=True)
class SSD:
    """Sliding spectrum decomposition: every item is held against the last window - 1 above it, as a reader meets them."""

    gamma: float = 0.5
    window: int = 5

    def __post_init__(self) -> None:
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma < float("inf")):
            raise ConfigError(f"gamma of SSD is 0 (the ranking as it is) or more, but it is {self.gamma!r}.")
        if not is_count(self.window, least=2):
            raise ConfigError(
                f"the window of SSD counts neighbouring items of a list, 2 or more, but it is {self.window!r}."
            )

    def __str__(self) -> str:
        return f"ssd:{self.gamma:g}:{self.window}"


def parse_diversity(text: str) -> MMR | SSD:
    """`mmr:0.3`, `ssd:0.5`, `ssd:0.5:8` (the window). Raises ConfigError for anything else."""
    name, *numbers = text.strip().lower().split(":")
    try:
        if name == "mmr" and len(numbers) <= 1:
            return MMR(*(float(number) for number in numbers))
        if name == "ssd" and len(numbers) <= 2:
            return SSD(*(kind(number) for kind, number in zip((float, int), numbers, strict=False)))
    except ValueError:
        pass
    raise ConfigError(
        f"diversity should read like mmr:0.3 (weight from 0 to 1) or ssd:0.5:5 (gamma, window), but it is '{text[:40]}'."
    )


def diverse_places(
    listed: Ranking, relevance: np.ndarray, vectors: np.ndarray, method: MMR | SSD, k: int
) -> np.ndarray:
    """The k positions of each list that `method` chooses, in its order: int64 (U, k), -1 where none is left.

    listed: items int32 (U, P). relevance: float (U, P), `scaled_relevance` of the list, or what steering made of it. vectors: float
    (U, P, D), any length; zeros for an item about which nothing is known.
    """
    allowed = listed.items >= 0  # (U, P)
    cosines = _cosines(vectors)  # (U, P, P)
    if isinstance(method, MMR):
        return mmr_order(relevance, cosines, allowed, k, method.weight)
    # With one more dimension that all share, opposite vectors are no longer parallel: likeness (1 + cosine) / 2.
    return ssd_order(relevance, (1 + cosines) / 2, allowed, k, method.gamma, method.window)


def scaled_relevance(listed: Ranking, num_scaled: int | None = None) -> np.ndarray:
    """Scores scaled to 0 (the worst of the list) .. 1 (its best): float64 (U, P). An item scored -inf is as the worst finite one.

    num_scaled: how many of the list's first items the scale is of, None for all; what stands below them is below 0.
    """
    real = (listed.items >= 0) & np.isfinite(listed.scores)  # (U, P)
    scores = np.where(real, listed.scores, 0.0).astype(np.float64)
    first = real & (np.arange(real.shape[1]) < (real.shape[1] if num_scaled is None else num_scaled))
    best = np.where(first, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    worst = np.where(first, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    spread = np.where(best > worst, best - worst, 1.0)
    scaled = (scores - np.where(np.isfinite(worst), worst, 0.0)) / spread
    return np.where(real, scaled, np.where(real, scaled, 0.0).min(axis=1, keepdims=True, initial=0.0))


def mmr_order(relevance: np.ndarray, similarity: np.ndarray, allowed: np.ndarray, k: int, weight: float) -> np.ndarray:
    """List positions chosen one after another by (1 - weight) relevance - weight max similarity to those chosen: int64 (U, k).

    relevance: float (U, P); similarity: float (U, P, P); allowed: bool (U, P); -1 where none is left. The first item, like
    nothing yet, is the most relevant one. Of equals the earlier position. O(U k P).
    """
    rows = np.arange(len(relevance))
    nearest = np.zeros_like(relevance)  # (U, P): of the first choice no similarity counts
    left = allowed.copy()
    places = np.full((len(relevance), k), -1, dtype=np.int64)
    for step in range(min(k, relevance.shape[1])):
        best, found = _best((1 - weight) * relevance - weight * nearest, left)
        places[found, step] = best[found]
        left[rows, best] = False
        nearest = similarity[rows, best] if step == 0 else np.maximum(nearest, similarity[rows, best])
    return places


def ssd_order(
    relevance: np.ndarray, gram: np.ndarray, allowed: np.ndarray, k: int, gamma: float, window: int
) -> np.ndarray:
    """List positions chosen one after another by relevance + gamma |part of the vector outside the span of the last window - 1|.

    This is the greedy step of SSD with the gains of the volume added up rather than multiplied (the paper's SSD*), so that
    gamma weighs the same at every rank of a list. An item that leaves the window gives its direction back: the directions
    are made anew from the items still inside, since those made later had lost their part along it.

    relevance: float (U, P); gram: float (U, P, P), inner products of the vectors; allowed: bool (U, P). Returns int64
    (U, k), -1 where none is left. Works on the inner products alone: O(U k P w^2), whatever the vectors' width.
    """
    rows = np.arange(len(relevance))
    left = allowed.copy()
    places = np.full((len(relevance), k), -1, dtype=np.int64)
    for step in range(min(k, relevance.shape[1])):
        inside = places[:, max(0, step - window + 1) : step]
        best, found = _best(relevance + gamma * residual_norms(gram, inside), left)
        places[found, step] = best[found]
        left[rows, best] = False
    return places


def residual_norms(gram: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Length of each vector's part orthogonal to the vectors at `inside`: float (U, P), by Gram-Schmidt on inner products.

    gram: float (U, P, P), positive semidefinite. inside: int64 (U, W), -1 for none; vectors there may depend on each other.
    """
    rows = np.arange(len(gram))
    squared = np.einsum("upp->up", gram).copy()  # (U, P)
    longest = squared.max(axis=1, initial=0)  # (U,)
    directions: list[np.ndarray] = []  # coordinates of every vector along each orthonormal direction: (U, P)
    for place in inside.T:
        row = gram[rows, place]  # (U, P): inner products with the vector at `place`
        for along in directions:
            row = row - along[rows, place, None] * along
        length = np.sqrt(np.maximum(row[rows, place], 0))  # (U,)
        new = (place >= 0) & (length > _NOTHING_NEW * np.sqrt(longest))
        along = np.divide(row, length[:, None], out=np.zeros_like(row), where=new[:, None])
        directions.append(along)
        squared -= along**2
    return np.sqrt(np.maximum(squared, 0))


def token_vectors(model: LanguageModel, items: np.ndarray) -> np.ndarray:
    """Vectors of items that every language-model recommender has: the mean of their tokens' input embeddings.

    That is the item embedding of a unique id, the mean of a semantic id's code embeddings, the mean of a title's word
    embeddings. Only the items asked for are read. items: int (U, P), -1 for none -> float32 (U, P, D), zeros for none.
    """
    import torch

    backbone, end = model.backbone, model.item_tokens.end_token
    flat = items.ravel()  # (M,)
    vectors = np.zeros((len(flat), backbone.dim), np.float32)
    for start in range(0, len(flat), _ITEMS_AT_ONCE):
        rows = flat[start : start + _ITEMS_AT_ONCE]
        tokens = torch.from_numpy(model.item_tokens.sequences[rows].astype(np.int64)).to(backbone.device)  # (M, L)
        used = (tokens >= 0) & torch.from_numpy(rows >= 0).to(backbone.device)[:, None]
        if end is not None:
            used &= tokens != end  # what all titles share says nothing
        with torch.no_grad():
            embedded = backbone.embed(tokens.clamp(min=0)).float() * used[..., None]  # (M, L, D)
        mean = embedded.sum(dim=1) / used.sum(dim=1, keepdim=True).clamp(min=1)
        vectors[start : start + len(rows)] = mean.cpu().numpy()
    return vectors.reshape(*items.shape, -1)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """(U, P, D) -> float64 (U, P, P); a zero vector is like nothing but itself."""
    unit = vectors.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-12)
    cosines = unit @ unit.swapaxes(1, 2)
    np.einsum("upp->up", cosines)[...] = 1.0
    return cosines


def _best(values: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each row's largest value among those left, int64 (U,), and whether one was left, bool (U,)."""
    return np.where(left, values, -np.inf).argmax(axis=1), left.any(axis=1)
