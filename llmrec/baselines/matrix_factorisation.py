"""Matrix factorisation of implicit feedback by alternating least squares: a vector per user, a vector per item, no torch.

Letters: U users or requests, I items, D dimensions.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from llmrec.baselines.baseline import Baseline
from llmrec.config import Settings
from llmrec.data.interactions import Histories, Interactions
from llmrec.recommenders.requests import Requests


class MatrixFactorisationSettings(Settings):
    """The model, and its alternating least squares."""

    dim: int = Field(64, ge=1)
    alpha: float = Field(10.0, gt=0)
    regularisation: float = Field(10.0, gt=0)
    iterations: int = Field(15, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)


class MatrixFactorisation(Baseline):
    """min over x, y of sum_ui c_ui (p_ui - x_u y_i)^2 + regularisation (sum |x_u|^2 + sum |y_i|^2).

    p_ui is 1 where u met i, else 0; c_ui = 1 + alpha times how often.
    Each half step is solved exactly, so the objective never rises. A request is a new user: its vector is solved from its history,
    and the score of an item is their inner product. Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback
    datasets", ICDM 2008, equations 3 to 5.
    """

    name = "matrix_factorisation"
    Settings = MatrixFactorisationSettings

    def fit(self, interactions: Interactions) -> Self:
        """Alternate from small random item vectors; items without an event end at zero."""
        self.num_items = interactions.num_items
        by_user = _counts(interactions.histories, self.num_items)
        by_item = by_user.T.tocsr()
        rng = np.random.default_rng(self.settings.seed)
        self.item_vectors = rng.normal(0, 0.1, (self.num_items, self.settings.dim))  # (I, D)
        for _ in range(self.settings.iterations):
            self.user_vectors = self._solve(by_user, self.item_vectors)  # (U, D)
            self.item_vectors = self._solve(by_item, self.user_vectors)
        return self

    def _solve(self, counts: sp.csr_array, others: np.ndarray) -> np.ndarray:
        """The best vector of each row given the others: (Y'Y + Y'(C - I)Y + regularisation) x = Y'C p, float64 (rows, D)."""
        everybody = others.T @ others + self.settings.regularisation * np.eye(self.settings.dim)
        solved = np.zeros((counts.shape[0], self.settings.dim))
        for row in np.flatnonzero(np.diff(counts.indptr)):
            span = slice(counts.indptr[row], counts.indptr[row + 1])
            met, extra = others[counts.indices[span]], self.settings.alpha * counts.data[span]  # (events, D), (events,)
            solved[row] = np.linalg.solve(everybody + (met.T * extra) @ met, met.T @ (1 + extra))
        return solved

    def objective(self, interactions: Interactions) -> float:
        """What is minimised, for the training events."""
        counts = _counts(interactions.histories, self.num_items)
        x, y = self.user_vectors, self.item_vectors
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        scores = np.einsum("nd,nd->n", x[rows], y[counts.indices])
        everywhere = np.sum((x.T @ x) * (y.T @ y))  # sum over all pairs of score^2
        where_met = ((1 + self.settings.alpha * counts.data) * (1 - scores) ** 2 - scores**2).sum()
        return float(everywhere + where_met + self.settings.regularisation * ((x**2).sum() + (y**2).sum()))

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history scores 0 everywhere."""
        return self._solve(_counts(requests.histories, self.num_items), self.item_vectors) @ self.item_vectors.T

    def item_embeddings(self) -> np.ndarray:
        """float32 (I, D)."""
        return self.item_vectors.astype(np.float32)


def _counts(histories: Histories, num_items: int) -> sp.csr_array:
    """How often each row met each item: float64 (rows, I)."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    shape = (len(histories), num_items)
    return sp.coo_array((np.ones(len(rows)), (rows, histories.items)), shape=shape).tocsr()  # sums repeated pairs
