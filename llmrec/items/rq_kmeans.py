"""Residual k-means: each level clusters what the levels before it left over, and an item's code there is its cluster.

Works on any matrix of item features: text embeddings, collaborative embeddings, or several side by side (`codebooks.Scaling`).
Source: RQ-KMeans as in OneRec (2025) and, for the residual idea, RQ-VAE of TIGER (Rajput et al. 2023).

Letters: N items, L levels, K codes of a level, D width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

from llmrec.errors import ConfigError, DataError
from llmrec.items.codebooks import Codebooks, Scaling, nearest, nearest_codes
from llmrec.items.quality import QualityReport, quality_report
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.items.unique_codes import make_unique

MAX_CODEBOOK_SIZE = 256
ITEMS_PER_CODE = 24  # k-means centroids of fewer points than this follow single items
DEFAULT_COMPONENTS = 64
INNER_COMPONENTS = 160
POINTS_FOR_AXES = 16384  # principal axes of more points than these are almost the same
FITS_TOGETHER = 2
OVERSHOOT = 1.6  # times the way to the means
SPLIT = 1 / 1024  # how far apart, relatively, the halves of a split cluster start
POINTS_PER_CODE = 256  # more points a centroid move it no further
SPARE_CODES = 4  # sequences of codes per item at least, so that unique rows stay near the nearest ones


def default_codebook_size(num_items: int, levels: int = 3) -> int:
    """Codes a level: the largest power of two up to 256 that leaves ITEMS_PER_CODE items for each code of a level, but no
    fewer than give SPARE_CODES sequences per item.

    1,682 items (MovieLens-100K) get 3 x 64; 12,101 items (Amazon Beauty) get 3 x 256.
    """
    crowded = 2 ** math.floor(math.log2(max(num_items / ITEMS_PER_CODE, 1)))
    roomy = 2 ** math.ceil(math.log2(max(SPARE_CODES * num_items, 2)) / levels)
    return max(min(crowded, MAX_CODEBOOK_SIZE), roomy)


def fit_codebooks(
    features: np.ndarray,
    codebook_sizes: Sequence[int],
    *,
    seed: int,
    components: int = DEFAULT_COMPONENTS,
    num_iterations: int = 12,
) -> list[np.ndarray]:
    """The centroids of every level: L arrays float32 (K, D).

    All but the end is done in the features' first INNER_COMPONENTS principal components. The clusters of a level are found in
    the first `components` of what the levels before it left over, where k-means is cheap and ends in better clusters than among
    hundreds of dimensions, and refined once in all inner ones. Then the levels are fitted to each other: every codebook in turn
    moves to the means of what the *other* codebooks leave of its items (least squares by coordinates, as in additive
    quantisation, Babenko and Lempitsky 2014), which levels found one after another have never seen. The last such fit is in
    all D dimensions.

    On the way centroids go OVERSHOOT times as far as to the means. As long as no item changes its code, a level's error is quadratic
    along that line and least at the means, so any factor below 2 still lowers it (of levels fitted together nearly so); and items
    that go on changing codes mostly move the means further the same way (successive over-relaxation, Young 1954). Fewer passes over
    the items are needed then.
    docs/benchmarks.md has errors and times.

    features: float32 (N, D), finite. The same features, sizes and seed give the same centroids. A level with more codes than
    items uses as many as there are items; the other centroids are zero, the mean at the first level. Of many items, at most
    POINTS_PER_CODE per code are looked at. num_iterations: of k-means in `components`.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    mean = features.mean(axis=0)
    points = _sampled(features, POINTS_PER_CODE * max(codebook_sizes), seed) - mean
    axes = _principal_axes(points, INNER_COMPONENTS)  # (D, I)
    inner = points @ axes  # (N, I)
    residual, codebooks = inner.copy(), []
    codes = np.empty((len(points), len(codebook_sizes)), np.int64)
    for level, size in enumerate(codebook_sizes):
        start = residual @ _principal_axes(residual, components)  # (N, C)
        clusters = _clusters(start, min(size, len(start)), num_iterations, seed + level)
        centroids, codes[:, level] = _refined(residual, nearest(start, clusters), size)
        residual -= centroids[codes[:, level]]
        codebooks.append(centroids)
    for _ in range(FITS_TOGETHER):
        fitted = _fitted_together(inner, codes, codebooks)
        codebooks = [_overshot(book, goal) for book, goal in zip(codebooks, fitted, strict=True)]
        codes = nearest_codes(inner, codebooks)
    outer = _fitted_together(points, codes, [book @ axes.T for book in codebooks])
    outer[0] += mean
    return outer


def _clusters(points: np.ndarray, size: int, num_iterations: int, seed: int) -> np.ndarray:
    """Centroids of k-means from `size` points sampled by seed, float32 (size, C)."""
    centroids = points[np.random.default_rng(seed).permutation(len(points))[:size]]
    for _ in range(num_iterations):
        codes = nearest(points, centroids)
        counts = np.bincount(codes, minlength=size)
        centroids = _overshot(centroids, _means(points, codes, centroids))
        large = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts > 1)]
        empty = np.flatnonzero(counts == 0)[: len(large)]  # each gets half of one of the largest clusters
        large = large[: len(empty)]
        centroids[empty] = centroids[large] * np.float32(1 + SPLIT)
        centroids[large] *= np.float32(1 - SPLIT)
    return centroids


def _refined(points: np.ndarray, codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids float32 (size, D) of clusters found in some components, after one iteration in all, and the points' codes."""
    centroids = _means(points, codes, np.zeros((size, points.shape[1]), np.float32))
    centroids = _means(points, nearest(points, centroids), centroids)
    return centroids, nearest(points, centroids)


def _sampled(points: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """All points, or `limit` of them sampled by seed, in their order."""
    if len(points) <= limit:
        return points
    return points[np.sort(np.random.default_rng(seed).permutation(len(points))[:limit])]


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """float32 (D, C): the directions of most variance of about POINTS_FOR_AXES points, C at most `components` and D."""
    some = centred[:: math.ceil(len(centred) / POINTS_FOR_AXES)]
    width = centred.shape[1]
    wanted = (max(width - components, 0), width - 1)
    ascending = scipy.linalg.eigh(some.T @ some, subset_by_index=wanted)[1]
    return np.ascontiguousarray(ascending[:, ::-1])


def _overshot(before: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """OVERSHOOT times the way from before to goal."""
    return before + np.float32(OVERSHOOT) * (goal - before)


def _fitted_together(
    points: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray], *, sweeps: int = 2
) -> list[np.ndarray]:
    """Each codebook moved to the means of what the others leave of its items, `sweeps` times round. codes: int (N, L).

    The mean of what is left of a code's points is that of the points less those of the other levels' centroids, each as often
    as both codes meet in a point: after two sums over the points the sweeps look at centroids alone.
    """
    chosen = _one_hot(codes, [len(book) for book in codebooks])
    sums = chosen.T @ points  # (sum K, D)
    meetings = (chosen.T @ chosen).tocsr()  # (sum K, sum K); a code with itself: its points
    counts = np.maximum(meetings.diagonal(), 1)[:, None]
    ends = np.cumsum([len(book) for book in codebooks])
    levels = [slice(end - len(book), end) for end, book in zip(ends, codebooks, strict=True)]
    rows = [meetings[level] for level in levels]
    books = np.concatenate(codebooks)
    for level, meets in [*zip(levels, rows, strict=True)] * sweeps:
        books[level] += (sums[level] - meets @ books) / counts[level]  # no points: nothing
    return [books[level] for level in levels]


def _means(points: np.ndarray, codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The mean of the points of each code, float32 (K, D); of no points, the centroid as it was."""
    chosen = _one_hot(codes[:, None], [len(centroids)])
    counts = np.bincount(codes, minlength=len(centroids)).astype(np.float32)[:, None]
    return np.where(counts > 0, chosen.T @ points / np.maximum(counts, 1), centroids)


def _one_hot(codes: np.ndarray, sizes: Sequence[int]) -> scipy.sparse.csr_array:
    """float32 (N, sum of K): a one in each level's part for each point, where its code is. codes: int (N, L)."""
    positions = codes + (np.cumsum(sizes) - sizes)
    ends = np.arange(0, codes.size + 1, codes.shape[1])
    return scipy.sparse.csr_array((np.ones(codes.size, np.float32), positions.ravel(), ends), (len(codes), sum(sizes)))


def tokenize_features(
    features: np.ndarray,
    *,
    levels: int = 3,
    codebook_size: int | None = None,
    seed: int = 0,
    components: int = DEFAULT_COMPONENTS,
    scaling: Scaling | None = None,
) -> tuple[SemanticIDs, QualityReport]:
    """Semantic IDs of N items from any feature matrix, and how good they are.

    features: numbers (N, D), finite. codebook_size: K of every level; None takes `default_codebook_size`. scaling: how the
    features were brought side by side, kept for items that come later; None: they are as they were computed.
    Raises DataError for features that are no matrix of finite numbers, and ConfigError for sizes that cannot tell the items
    apart.
    """
    features = _checked(features)
    for name, value in (("levels", levels), ("components", components)):
        if value < 1:
            raise ConfigError(f"{name} is at least 1; it is {value}.")
    size = default_codebook_size(len(features), levels) if codebook_size is None else codebook_size
    if size < 2 or size**levels < len(features):
        raise ConfigError(
            f"{levels} levels of {size} codes tell {max(size, 0) ** levels} items apart, but the catalog has {len(features)}. "
            "Use more levels or larger codebooks."
        )
    if size > (most := max(MAX_CODEBOOK_SIZE, len(features), default_codebook_size(len(features), levels))):
        raise ConfigError(
            f"{len(features)} items have no use for {size} codes per level; {most} are the most. Use fewer."
        )
    codebooks = fit_codebooks(features, [size] * levels, seed=seed, components=components)
    before = nearest_codes(features, codebooks)
    codes = make_unique(features, before, codebooks)
    kept = Codebooks(codebooks, scaling or Scaling.none(features.shape[1]))
    report = quality_report(features, before, codes, codebooks, seed=seed)
    return SemanticIDs(codes, (size,) * levels, codebooks=kept), report


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.ascontiguousarray(features, dtype=np.float32)
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"item features should be a matrix with one row per item; these have shape {features.shape}.")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise DataError(
            f"item features should be finite, but {broken.sum()} items have NaN or infinity (the first is item "
            f"{np.argmax(broken)}). Compute them again."
        )
    return features
