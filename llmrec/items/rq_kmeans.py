"""Residual k-means: each level clusters what the levels before it left over, and an item's code there is its cluster.

Works on any matrix of item features: text embeddings, collaborative factors, or several side by side (`codebooks.Scaling`).
Source: RQ-KMeans as in OneRec (2025) and, for the residual idea, RQ-VAE of TIGER (Rajput et al. 2023).

Letters: N items, L levels, K codes of a level, D width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import faiss
import numpy as np

from llmrec.errors import ConfigError, DataError
from llmrec.items.codebooks import Codebooks, Scaling, nearest, nearest_codes
from llmrec.items.quality import QualityReport, quality_report
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.items.unique_codes import make_unique

MAX_CODEBOOK_SIZE = 256
ITEMS_PER_CODE = 24  # k-means centroids of fewer points than this follow single items
DEFAULT_COMPONENTS = 64
INNER_COMPONENTS = 160
FITS_TOGETHER = 4
POINTS_PER_CODE = 256  # more points a centroid move it no further (faiss's own limit)
SPARE_CODES = 4  # sequences of codes per item at least, so that unique rows stay near the nearest ones


def default_codebook_size(num_items: int, levels: int = 3) -> int:
    """Codes a level: the largest power of two up to 256 that leaves ITEMS_PER_CODE items for each code of a level, but no
    fewer than give SPARE_CODES sequences an item.

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
    num_iterations: int = 10,
) -> list[np.ndarray]:
    """The centroids of every level: L arrays float32 (K, D).

    All but the end is done in the features' first INNER_COMPONENTS principal components. The clusters of a level are found in
    the first `components` of what the levels before it left over, where k-means is cheap and ends in better clusters than among
    hundreds of dimensions, and refined once in all inner ones. Then the levels are fitted to each other: every codebook in turn
    moves to the means of what the *other* codebooks leave of its items (least squares by coordinates, as in additive
    quantisation, Babenko and Lempitsky 2014), which levels found one after another have never seen. The last such round is in
    all D dimensions. docs/benchmarks.md has errors and times.

    features: float32 (N, D), finite. The same features, sizes and seed give the same centroids. A level with more codes than
    items uses as many as there are items; the other centroids are zero, the mean at the first level. Of many items, at most
    POINTS_PER_CODE a code are looked at. num_iterations: of k-means in `components`.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    mean = features.mean(axis=0)
    points = _sampled(features, POINTS_PER_CODE * max(codebook_sizes), seed)
    axes = _principal_axes(points - mean, INNER_COMPONENTS)  # (D, I)
    inner = (points - mean) @ axes  # (N, I)
    residual, codebooks = inner.copy(), []
    for level, size in enumerate(codebook_sizes):
        centroids = _clusters(residual, size, components, num_iterations, seed + level)
        residual -= centroids[nearest(residual, centroids)]
        codebooks.append(centroids)
    for _ in range(FITS_TOGETHER):
        codebooks = _fitted_together(inner, nearest_codes(inner, codebooks), codebooks, sweeps=2)
    outer = [book @ axes.T for book in codebooks]
    outer[0] += mean
    return _fitted_together(points, nearest_codes(inner, codebooks), outer, sweeps=1)


def _clusters(points: np.ndarray, size: int, components: int, num_iterations: int, seed: int) -> np.ndarray:
    """Centroids of one level, float32 (size, D): k-means in the first principal components, one iteration in all dimensions."""
    start = np.ascontiguousarray(points @ _principal_axes(points, components))
    kmeans = faiss.Kmeans(
        start.shape[1],
        min(size, len(points)),
        niter=num_iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CODE,
    )
    kmeans.train(start)
    centroids = np.zeros((size, points.shape[1]), np.float32)
    centroids = _means(points, nearest(start, kmeans.centroids), centroids)
    return _means(points, nearest(points, centroids), centroids)


def _sampled(points: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """All points, or `limit` of them drawn by seed, in their order."""
    if len(points) <= limit:
        return points
    return points[np.sort(np.random.default_rng(seed).permutation(len(points))[:limit])]


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """float32 (D, C): the directions of most variance, C at most `components` and D."""
    covariance = (centred.T @ centred).astype(np.float64)
    return np.linalg.eigh(covariance)[1][:, ::-1][:, :components].astype(np.float32).copy()


def _fitted_together(
    points: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray], *, sweeps: int
) -> list[np.ndarray]:
    """Each codebook moved to the means of what the others leave of its items, `sweeps` times round. codes: int (N, L)."""
    left = points - sum(book[codes[:, level]] for level, book in enumerate(codebooks))  # (N, D)
    books = list(codebooks)
    for level in [*range(len(books))] * sweeps:
        left += books[level][codes[:, level]]
        books[level] = _means(left, codes[:, level], books[level])
        left -= books[level][codes[:, level]]
    return books


def _means(points: np.ndarray, codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The mean of the points of each code, float32 (K, D); of no points, the centroid as it was."""
    counts = np.bincount(codes, minlength=len(centroids))
    used = counts > 0
    starts = np.cumsum(counts) - counts
    sums = np.add.reduceat(points[np.argsort(codes, kind="stable")], starts[used], axis=0)
    moved = centroids.copy()
    moved[used] = sums / counts[used, None]
    return moved


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
    codebooks = fit_codebooks(features, [size] * levels, seed=seed, components=components)
    before = nearest_codes(features, codebooks)
    codes = make_unique(features, before, codebooks)
    kept = Codebooks(codebooks, scaling or Scaling.none(features.shape[1]))
    report = quality_report(features, before, codes, codebooks, seed=seed)
    return SemanticIDs(codes, (size,) * levels, codebooks=kept), report


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.ascontiguousarray(features, dtype=np.float32)
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"item features should be a matrix with one row an item; these have shape {features.shape}.")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise DataError(
            f"item features should be finite, but {broken.sum()} items have NaN or infinity (the first is item "
            f"{np.argmax(broken)}). Compute them again."
        )
    return features
