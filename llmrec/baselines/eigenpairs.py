"""The largest eigenpairs of a large sparse matrix, by subspace iteration with Chebyshev filters: products with blocks of vectors.

Letters: U rows of X, N columns of X, K eigenpairs, S vectors of the block.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

EXACT_UP_TO = 3000  # columns: a dense solution takes seconds
# Three filters of degree 8: the sum of 256 eigenvalues on Amazon Beauty is within 6e-6 of a longer run's.
_FILTERS, _DEGREE = 4, 8


def largest_eigenpairs(x: sp.csr_array, diagonal: np.ndarray, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Of X'X + diag(diagonal): the largest eigenvalues falling, float64 (K,), and their vectors (N, K). Deterministic.

    x: (U, N); diagonal: (N,), positive. Exact for few columns or many pairs, else float32 vectors of a fixed random start: their span
    holds all but a few millionths of the sum of the eigenvalues, while vectors of nearly equal eigenvalues may be mixed.
    """
    size = x.shape[1]
    block = num_pairs + max(20, num_pairs // 5)
    if size <= EXACT_UP_TO or 2 * block > size:
        whole = (x.T @ x).toarray() + np.diag(diagonal)
        values, vectors = eigh(whole, subset_by_index=(size - num_pairs, size - 1), overwrite_a=True)
        return values[::-1], vectors[:, ::-1].copy()
    forward, back, added = x.astype(np.float32), x.T.tocsr().astype(np.float32), diagonal.astype(np.float32)[:, None]

    def times(vectors: np.ndarray) -> np.ndarray:
        return back @ (forward @ vectors) + added * vectors

    start = np.random.default_rng(0).standard_normal((size, block), dtype=np.float32)
    vectors, _ = np.linalg.qr(times(start))
    for turn in range(_FILTERS):
        values, rotation = eigh(
            (vectors.T @ times(vectors)).astype(np.float64)
        )  # of the matrix within the block's span
        vectors = vectors @ rotation.astype(np.float32)
        if turn < _FILTERS - 1:
            vectors, _ = np.linalg.qr(_filtered(times, vectors, values[0], values[-1]))
    return values[::-1][:num_pairs], vectors[:, ::-1][:, :num_pairs].copy()


def _filtered(times, vectors: np.ndarray, cut: float, top: float) -> np.ndarray:
    """Vectors with what belongs to eigenvalues in [0, cut] damped and what lies towards `top` raised: the Chebyshev recurrence, scaled.

    Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-field calculations using Chebyshev-filtered subspace iteration", 2006.
    """
    half = cut / 2
    first = scale = half / (top - half)
    before, now = vectors, (times(vectors) - np.float32(half) * vectors) * np.float32(scale / half)
    for _ in range(_DEGREE - 1):
        new_scale = 1 / (2 / first - scale)
        after = (times(now) - np.float32(half) * now) * np.float32(2 * new_scale / half)
        before, now = now, after - np.float32(scale * new_scale) * before
        scale = new_scale
    return now
