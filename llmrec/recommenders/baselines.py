"""Counters that every model is measured against: popularity, Markov counts, EASE-R with recency, and its item factors.

They are float64 and exact, learn in seconds, and import no torch. Letters: U requests, E events, I items.
"""

from __future__ import annotations

import copy
import os
from typing import Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack
from scipy.sparse.linalg import eigsh

from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, ModelError
from llmrec.recommenders.requests import DenseRecommender, Requests


class Popularity(DenseRecommender):
    """score(i) = number of fitted events of i, for everybody."""

    name = "popularity"

    def fit(self, interactions: Interactions) -> Self:
        """Count the events."""
        self.num_items = interactions.num_items
        self.counts = interactions.counts().astype(np.float64)  # (I,)
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I)."""
        return np.tile(self.counts, (len(requests), 1))


class Markov(DenseRecommender):
    """score(i) = count(last item -> i as adjacent fitted events) + 1e-6 popularity(i)."""

    name = "markov"

    def fit(self, interactions: Interactions) -> Self:
        """Count the adjacent pairs of every user."""
        self.num_items = interactions.num_items
        self.counts = interactions.counts().astype(np.float64)  # (I,)
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
        same_user = users[1:] == users[:-1]
        before, after = interactions.items[:-1][same_user], interactions.items[1:][same_user]
        shape = (self.num_items, self.num_items)
        self.follows = sp.coo_array((np.ones(len(before)), (before, after)), shape=shape).tocsr()  # sums repeated pairs
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history falls back to popularity alone."""
        histories = requests.histories
        rows = np.flatnonzero(histories.lengths > 0)
        last = histories.items[histories.indptr[rows + 1] - 1]
        shape = (len(requests), self.num_items)
        picks = sp.csr_array((np.ones(len(rows)), (rows, last)), shape=shape)
        return (picks @ self.follows).toarray() + 1e-6 * self.counts


class EaseR(DenseRecommender):
    """The shallow autoencoder with a closed form: a strong linear item-to-item model, here with recency weights.

    P = (X'X + lambda I)^-1 for binary X (users x items); B_ij = -P_ij / P_jj, zero diagonal;
    score = sum over the history of recency^a B[item], a = 0 for the latest event, a repeat once at its latest place.
    Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, equation 8; recency 1 is the paper's model.
    """

    name = "ease_r"

    def __init__(self, lambda_: float = 100.0, recency: float = 0.6) -> None:
        if not lambda_ > 0:
            raise ConfigError(f"lambda of EASE-R should be above 0 but is {lambda_}: at 0 the inverse does not exist.")
        self.lambda_ = lambda_
        self.recency = _checked_recency(recency)

    @property
    def card(self) -> dict:
        """Both settings."""
        return {"lambda": self.lambda_, "recency": self.recency}

    def fit(self, interactions: Interactions) -> Self:
        """Invert the item-item matrix in place: 8 I^2 bytes, about I^3 multiply-adds (12,101 items: 1.2 GB, a minute).

        Raises ModelError when the matrix would not fit the machine's memory.
        """
        self.num_items = interactions.num_items
        _check_memory(self.num_items)
        seen = _binary_rows(interactions.histories, self.num_items)
        gram = (seen.T @ seen).toarray(order="F")
        gram[np.diag_indices_from(gram)] += self.lambda_
        self.weights, self._diagonal = _ease_weights(gram)  # B (I, I), diag P (I,)
        self._seen = seen
        return self

    def with_recency(self, recency: float) -> Self:
        """The same fitted model with another recency, sharing its matrix."""
        other = copy.copy(self)
        other.recency = _checked_recency(recency)
        return other

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history scores 0 everywhere."""
        return _recency_rows(requests.histories, self.num_items, self.recency) @ self.weights

    def factors(self, dim: int) -> np.ndarray:
        """Collaborative vectors of the items, to initialise a model with: float32 (I, dim), largest component first.

        Their inner products are the best approximation of rank dim to the items' partial correlations
        C = I - D^-1/2 P D^-1/2, D = diag P, which is B made symmetric (C_ij = B_ij sqrt(P_jj / P_ii)) and unlike B does
        not depend on how popular either item is. Items without an event get zeros. As a recommender with recency .6 they
        come close to B: validation R@10 .207 at dim 64 on MovieLens-100K (B: .170), .064 / .083 / .092 at 64 / 256 / 576
        on Amazon Beauty (B: .099; cosines of co-occurrence: .028 at 64). Raises ConfigError for dim above I.
        """
        if not 1 <= dim <= self.num_items:
            raise ConfigError(f"EASE-R has factors of 1 to {self.num_items} dimensions (one an item), not {dim}.")
        # The largest eigenvalues of C belong to the largest of its inverse-side twin D^1/2 (X'X + lambda I) D^1/2, which
        # is sparse: eigenvalue m there is 1 - 1 / m here.
        root = np.sqrt(self._diagonal)
        scaled = self._seen @ sp.diags_array(root)
        twin = scaled.T @ scaled + sp.diags_array(self.lambda_ * self._diagonal)
        if dim < self.num_items // 2:
            values, vectors = eigsh(twin, dim, which="LA", v0=np.ones(self.num_items))  # a fixed start: repeatable
        else:
            values, vectors = np.linalg.eigh(twin.toarray())
        largest = np.argsort(-values)[:dim]
        values, vectors = values[largest], vectors[:, largest]
        vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])  # eigenvectors have no sign
        return (vectors * np.sqrt(np.maximum(1 - 1 / values, 0))).astype(np.float32)


class EaseRFactors(DenseRecommender):
    """EASE-R's item factors as a recommender of their own: score(i) = sum over the history of recency^a <factor, factor_i>.

    What a language model's item rows may start from (`EaseR.factors`), so the row to beat for a model that does: training has to
    add to it. `dim` components keep what many items share and drop the rest, which on small data can beat all of EASE-R.
    """

    name = "ease_r_factors"

    def __init__(self, dim: int = 32, lambda_: float = 100.0, recency: float = 0.6) -> None:
        self.dim = dim
        self.ease_r = EaseR(lambda_, recency)

    @property
    def card(self) -> dict:
        """Dimensions, and EASE-R's settings."""
        return {"dim": self.dim, **self.ease_r.card}

    def fit(self, interactions: Interactions) -> Self:
        """Fit EASE-R and take its factors."""
        return self.take(self.ease_r.fit(interactions))

    def take(self, ease_r: EaseR) -> Self:
        """The factors of an EASE-R that has been fitted already."""
        self.ease_r = ease_r
        self.num_items = ease_r.num_items
        self.factors = ease_r.factors(min(self.dim, self.num_items)).astype(np.float64)  # (I, dim)
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history scores 0 everywhere."""
        taste = _recency_rows(requests.histories, self.num_items, self.ease_r.recency) @ self.factors  # (U, dim)
        return taste @ self.factors.T


BASELINES: dict[str, type[Popularity | Markov | EaseR | EaseRFactors]] = {
    "popularity": Popularity,
    "markov": Markov,
    "ease_r": EaseR,
    "ease_r_factors": EaseRFactors,
}


def fit_baselines(interactions: Interactions) -> list[Popularity | Markov | EaseR | EaseRFactors]:
    """All baselines with default settings, in the order of BASELINES; EASE-R, which takes longest, is fitted once."""
    ease_r = EaseR().fit(interactions)
    return [Popularity().fit(interactions), Markov().fit(interactions), ease_r, EaseRFactors().take(ease_r)]


def _checked_recency(recency: float) -> float:
    if not 0 < recency <= 1:
        raise ConfigError(f"recency of EASE-R should be above 0 and at most 1 (no forgetting) but is {recency}.")
    return recency


def _check_memory(num_items: int) -> None:
    needed = 8 * num_items**2
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise ModelError(
            f"EASE-R on {num_items} items needs {needed / 1e9:.0f} GB, but this machine has {available / 1e9:.0f} GB. "
            "Use popularity and markov here, or a larger machine."
        )


def _latest_places(histories: Histories, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and item of every distinct (row, item), row by row and latest first within a row: int64 (N,) each."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)[::-1]
    items = histories.items[::-1]
    _, first = np.unique(rows * np.int64(num_items) + items, return_index=True)  # first from the back = the latest
    first.sort()
    # From the back the rows fall; a stable sort puts them in order and leaves each row latest first.
    order = np.argsort(rows[first], kind="stable")
    return rows[first][order], items[first][order]


def _binary_rows(histories: Histories, num_items: int) -> sp.csr_array:
    rows, items = _latest_places(histories, num_items)
    return sp.csr_array((np.ones(len(rows)), (rows, items)), shape=(len(histories), num_items))


def _recency_rows(histories: Histories, num_items: int, recency: float) -> sp.csr_array:
    """(U, I) with recency^a at each row's distinct items, a counted from the latest."""
    rows, items = _latest_places(histories, num_items)
    age = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return sp.csr_array((recency**age, (rows, items)), shape=(len(histories), num_items))


def _ease_weights(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B and diag(P) from X'X + lambda I, overwriting it: float64 (I, I) in Fortran order -> (I, I), (I,)."""
    factor, failed = lapack.dpotrf(gram, lower=1, clean=0, overwrite_a=1)
    assert failed == 0, f"X'X + lambda I is positive definite, yet dpotrf says {failed}"
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    assert failed == 0, f"a positive definite matrix has an inverse, yet dpotri says {failed}"
    p = inverse.T  # C order; LAPACK filled its lower triangle, so p holds the upper one
    for start in range(0, len(p), 512):  # mirrored in strips: a whole copy would double the memory
        end = min(start + 512, len(p))
        block = np.triu(p[start:end, start:end])
        p[start:end, start:end] = block + np.triu(block, 1).T
        p[end:, start:end] = p[start:end, end:].T
    diagonal = np.diag(p).copy()
    p /= -diagonal
    np.fill_diagonal(p, 0.0)
    return p, diagonal
