"""How good semantic IDs are, in numbers that can be compared between methods, sizes and features.

Letters: N items, L levels, K codes of a level, D width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import faiss
import numpy as np

NUM_NEIGHBOURS = 10
MAX_SAMPLED_ITEMS = 2_000


@dataclass(frozen=True)
class QualityReport:
    """colliding_items: items that shared their row with another before re-assignment; moved_items: those that got another
    row; moved_prefixes: those of them that had to leave their prefix. The lists have one entry per level, over the final codes:
    utilisation, share of the codebook in use; entropy_bits, of the codes' distribution over items (at most log2 K);
    perplexity, 2 to that. neighbour_agreement: for the first 1, 2, ... L-1 codes, the share of an item's 10 nearest items
    (by inner product of normalised features) that begin with the same codes; chance_agreement: the same for random pairs.
    unexplained_nearest and unexplained: squared reconstruction error over the features' variance, before and after."""

    num_items: int
    codebook_sizes: tuple[int, ...]
    colliding_items: int
    moved_items: int
    moved_prefixes: int
    utilisation: tuple[float, ...]
    entropy_bits: tuple[float, ...]
    perplexity: tuple[float, ...]
    neighbour_agreement: tuple[float, ...]
    chance_agreement: tuple[float, ...]
    unexplained_nearest: float
    unexplained: float

    def as_dict(self) -> dict:
        """Plain lists and numbers, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def quality_report(
    features: np.ndarray, nearest: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray], *, seed: int
) -> QualityReport:
    """Measures codes. features: float32 (N, D); nearest: int32 (N, L) before re-assignment; codes: int32 (N, L) after it."""
    _, row_counts = np.unique(nearest, axis=0, return_counts=True)
    usage = [np.bincount(codes[:, level], minlength=len(book)) for level, book in enumerate(codebooks)]
    entropy = tuple(_entropy_bits(counts) for counts in usage)
    return QualityReport(
        num_items=len(codes),
        codebook_sizes=tuple(len(book) for book in codebooks),
        colliding_items=int(row_counts[row_counts > 1].sum()),
        moved_items=int((nearest != codes).any(axis=1).sum()),
        moved_prefixes=int((nearest[:, :-1] != codes[:, :-1]).any(axis=1).sum()),
        utilisation=tuple(float((counts > 0).mean()) for counts in usage),
        entropy_bits=entropy,
        perplexity=tuple(2**bits for bits in entropy),
        neighbour_agreement=_neighbour_agreement(features, codes, seed),
        chance_agreement=tuple(_chance_agreement(codes[:, : level + 1]) for level in range(codes.shape[1] - 1)),
        unexplained_nearest=_unexplained(features, nearest, codebooks),
        unexplained=_unexplained(features, codes, codebooks),
    )


def _entropy_bits(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum() + 0.0)  # + 0.0: no "-0.0" for a single code


def _neighbour_agreement(features: np.ndarray, codes: np.ndarray, seed: int) -> tuple[float, ...]:
    """Over at most MAX_SAMPLED_ITEMS items, sampled by seed, each against all others."""
    num_neighbours = min(NUM_NEIGHBOURS, len(codes) - 1)
    if num_neighbours < 1:
        return (0.0,) * (codes.shape[1] - 1)
    normalised = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    normalised = np.ascontiguousarray(normalised, dtype=np.float32)
    index = faiss.IndexFlatIP(features.shape[1])
    index.add(normalised)
    sample = np.random.default_rng(seed).permutation(len(codes))[:MAX_SAMPLED_ITEMS]
    found = index.search(normalised[sample], num_neighbours + 1)[1]  # (S, 11), the item itself most often among them
    others = found != sample[:, None]
    others[others.all(axis=1), -1] = False  # items with more than ten twins may not find themselves
    equal = np.cumprod(codes[found] == codes[sample][:, None], axis=2)  # (S, 11, L): the first 1, 2, ... codes agree
    return tuple(float(equal[..., level][others].mean()) for level in range(codes.shape[1] - 1))


def _chance_agreement(prefixes: np.ndarray) -> float:
    """The share of pairs of different items that have the same prefix."""
    _, counts = np.unique(prefixes, axis=0, return_counts=True)
    pairs = len(prefixes) * (len(prefixes) - 1)
    return float((counts * (counts - 1.0)).sum() / pairs) if pairs else 0.0


def _unexplained(features: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> float:
    error = features - sum(book[codes[:, level]] for level, book in enumerate(codebooks))
    variance = float(((features - features.mean(axis=0)) ** 2).sum())
    return float((error**2).sum()) / variance if variance > 0 else 0.0
