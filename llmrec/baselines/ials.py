"""iALS: a vector per user and a vector per item of implicit feedback, by alternating least squares solved exactly. No torch.

Letters: U users or requests, I items, D dimensions, n items of a row, R rows of n items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from llmrec.baselines.baseline import Baseline, DoesNotFit
from llmrec.config import Settings
from llmrec.data.interactions import Histories, Interactions
from llmrec.memory import free_machine_bytes
from llmrec.recommenders.requests import Requests

_NUMBERS_AT_ONCE = 8_000_000  # float64 of a batch of rows


class IalsSettings(Settings):
    """The model, and its alternating least squares."""

    dim: int = Field(256, ge=1)
    alpha: float = Field(20.0, gt=0)
    regularisation: float = Field(10.0, gt=0)
    # 0: the same for every vector; 1: in proportion to the weight of what the vector has to explain (the mean stays as it is)
    frequency_exponent: float = Field(0.0, ge=0, le=1)
    iterations: int = Field(15, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)


class Ials(Baseline):
    """min over x, y of sum_ui c_ui (p_ui - x_u y_i)^2 + sum_u l_u |x_u|^2 + sum_i l_i |y_i|^2.

    p_ui is 1 where u met i, else 0; c_ui = 1 + alpha times how often. Each half step is solved exactly, so the objective never
    rises. A request is a new user: its vector is solved from its history, and the score of an item is their inner product. Hu, Koren
    and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008, equations 3 to 5.

    l = regularisation w^e / mean of w^e: e is `frequency_exponent`, w is alpha times the events of the row plus the length of the row,
    and the mean is over all rows and columns with an event. This is the frequency-scaled regularisation of Rendle et al., "Revisiting
    the performance of iALS on item recommendation benchmarks", RecSys 2022, in Hu's terms: their unobserved weight is 1 / alpha.
    """

    name = "ials"
    Settings = IalsSettings

    def fit(self, interactions: Interactions) -> Self:
        """Alternate from small random item vectors; items without an event end at zero. Raises DoesNotFit without the memory."""
        self.num_items = interactions.num_items
        _check_memory(interactions.num_users + self.num_items, self.settings.dim)
        by_user = _counts(interactions.histories, self.num_items)
        by_item = by_user.T.tocsr()
        self._mean_weight = self._mean_of_weights(by_user, by_item)
        rng = np.random.default_rng(self.settings.seed)
        self.item_vectors = rng.normal(0, 0.1, (self.num_items, self.settings.dim))  # (I, D)
        for _ in range(self.settings.iterations):
            self.user_vectors = self._solve(by_user, self.item_vectors)  # (U, D)
            self.item_vectors = self._solve(by_item, self.user_vectors)
        return self

    def _mean_of_weights(self, by_user: sp.csr_array, by_item: sp.csr_array) -> float:
        """The mean of w^e; 1 where nobody has an event."""
        weights = [self._weights(counts)[np.diff(counts.indptr) > 0] for counts in (by_user, by_item)]
        return float(np.mean(np.concatenate(weights))) if by_user.nnz else 1.0

    def _weights(self, counts: sp.csr_array) -> np.ndarray:
        """w^e of each row, float64 (rows,)."""
        return (self.settings.alpha * counts.sum(axis=1) + counts.shape[1]) ** self.settings.frequency_exponent

    def _regularisation(self, counts: sp.csr_array) -> np.ndarray:
        """l of each row, float64 (rows,)."""
        return self.settings.regularisation * self._weights(counts) / self._mean_weight

    def _solve(self, counts: sp.csr_array, others: np.ndarray) -> np.ndarray:
        """The best vector of each row given the others, float64 (rows, D): (Y'Y + Y'(C - I)Y + l) x = Y'C p.

        In the basis of Y'Y's eigenvectors Y'Y + l is a diagonal S, so a row with n < D items costs n^2 D and n^3 instead of D^3:
        (S + V'EV)^-1 V'(1 + e) = S^-1 V' (E^-1 + V S^-1 V')^-1 E^-1 (1 + e), where V holds the vectors it met, e is alpha times how
        often, and E = diag(e).
        """
        values, basis = np.linalg.eigh(others.T @ others)
        turned = others @ basis  # (I, D)
        values = np.maximum(values, 0)
        regularisation = self._regularisation(counts)
        solved = np.zeros((counts.shape[0], self.settings.dim))
        for rows, items, times in _of_equal_length(counts, self.settings.dim):
            extra = self.settings.alpha * times  # (R, n)
            met = turned[items]  # (R, n, D)
            diagonal = values + regularisation[rows][:, None]  # (R, D)
            if items.shape[1] < self.settings.dim:
                scaled = met / diagonal[:, None]
                kernel = met @ scaled.transpose(0, 2, 1)  # (R, n, n)
                kernel[:, np.arange(items.shape[1]), np.arange(items.shape[1])] += 1 / extra
                inner = np.linalg.solve(kernel, ((1 + extra) / extra)[..., None])  # (R, n, 1)
                solved[rows] = (scaled.transpose(0, 2, 1) @ inner)[..., 0]
            else:
                matrix = (met * extra[..., None]).transpose(0, 2, 1) @ met  # (R, D, D)
                matrix[:, np.arange(self.settings.dim), np.arange(self.settings.dim)] += diagonal
                right = met.transpose(0, 2, 1) @ (1 + extra)[..., None]
                solved[rows] = np.linalg.solve(matrix, right)[..., 0]
        return solved @ basis.T

    def objective(self, interactions: Interactions) -> float:
        """What is minimised, for the training events."""
        counts = _counts(interactions.histories, self.num_items)
        x, y = self.user_vectors, self.item_vectors
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        scores = np.einsum("nd,nd->n", x[rows], y[counts.indices])
        everywhere = np.sum((x.T @ x) * (y.T @ y))  # sum over all pairs of score^2
        where_met = ((1 + self.settings.alpha * counts.data) * (1 - scores) ** 2 - scores**2).sum()
        sizes = self._regularisation(counts) @ (x**2).sum(axis=1)
        sizes += self._regularisation(counts.T.tocsr()) @ (y**2).sum(axis=1)
        return float(everywhere + where_met + sizes)

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


def _of_equal_length(counts: sp.csr_array, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows with equally many items, in batches that fit: rows int64 (R,), items int32 (R, n), how often float64 (R, n)."""
    lengths = np.diff(counts.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    starts = np.flatnonzero(np.diff(lengths[order], prepend=0))
    for rows in np.split(order, starts[1:]):
        if not len(rows):
            continue
        length = int(lengths[rows[0]])
        at_once = max(1, _NUMBERS_AT_ONCE // (length * dim + min(length, dim) ** 2))
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            places = counts.indptr[some][:, None] + np.arange(length)
            yield some, counts.indices[places], counts.data[places]


def _check_memory(num_rows: int, dim: int) -> None:
    needed, free = 3 * 8 * num_rows * dim + 4 * 8 * _NUMBERS_AT_ONCE, free_machine_bytes()
    if free is not None and needed > free:
        raise DoesNotFit(
            f"iALS with {num_rows:,} users and items of {dim} dimensions needs {needed / 1e9:.1f} GB, but "
            f"{free / 1e9:.1f} GB are free. Set a lower dim, or use a larger machine."
        )
