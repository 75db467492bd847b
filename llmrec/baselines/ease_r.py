"""EASE-R, a strong linear item-to-item model, and its low-rank embeddings. Both learn in seconds and import no torch.

Items without an event have no part in either: they take neither time nor memory, and score 0. Letters: U requests, E events, I items of
the catalogue, N of them with an event, D dimensions.
"""

from __future__ import annotations

import copy
import sys
import time
from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from rich.console import Console
from rich.progress import Progress

from llmrec.baselines.baseline import Arrays, Baseline, sparse_arrays, sparse_of
from llmrec.baselines.eigenpairs import largest_eigenpairs
from llmrec.baselines.item_inverse import check_memory, gram_of, inverse, inverse_diagonal
from llmrec.config import Settings
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ModelError
from llmrec.recommenders.requests import Requests

_ROWS_AT_ONCE = 1024  # of the matrix, when it is thinned
SAID_FROM = 10  # seconds of a computation from which its estimate is worth a line


class EaseRSettings(Settings):
    """lambda of the paper, and how fast a history's older events lose weight (1: not at all)."""

    regularisation: float = Field(100.0, gt=0)
    recency: float = Field(0.6, gt=0, le=1)


class EaseRFactorsSettings(EaseRSettings):
    """Those of EASE-R, and the width of the embeddings."""

    dim: int = Field(32, ge=1)


class EaseR(Baseline):
    """The shallow autoencoder with a closed-form solution, here with recency weights.

    P = (X'X + lambda I)^-1 for binary X (users x items); B_ij = -P_ij / P_jj, zero diagonal;
    score = sum over the history of recency^a B[item], a = 0 for the latest event, a repeat once at its latest position.
    Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, equation 8; recency 1 is the paper's model.
    """

    name = "ease_r"
    Settings = EaseRSettings
    neighbours: int | None = None

    def fit(self, interactions: Interactions) -> Self:
        """Invert the matrix of the N items that have events: 4 N^2 bytes, up to N^3 / 2 multiply-adds; see `item_inverse`.

        Says on standard error how far it is where it takes long. Raises DoesNotFit when the matrix would not fit into the memory that
        this process may take.
        """
        self.num_items = interactions.num_items
        items, seen = seen_items(interactions)
        check_memory(len(items))
        with _Watched(f"EASE-R on {len(items):,} items") as monitored:
            self._weights, order = inverse(gram_of(seen, self.settings.regularisation), monitored.show)  # (N, N)
        self._order = items[order]  # the item of each row and column
        self._weights /= -self._weights.diagonal().copy()
        np.fill_diagonal(self._weights, 0.0)
        return self

    @property
    def weights(self) -> np.ndarray:
        """B, float32 (I, I), made anew and as large as the catalogue squared. Items without an event have zeros."""
        whole = np.zeros((self.num_items, self.num_items), np.float32)
        kept = self._weights if isinstance(self._weights, np.ndarray) else self._weights.toarray()
        whole[np.ix_(self._order, self._order)] = kept
        return whole

    def thinned(self, neighbours: int) -> Self:
        """The same with the `neighbours` weights of each item of a history that are largest by size, the others 0: 8 bytes each.

        A matrix of all items with all items is too large to keep in a run. Of equal ones those at the lower place are kept.
        """
        num_kept = min(neighbours, max(len(self._order) - 1, 1))
        rows = []
        for start in range(0, len(self._order), _ROWS_AT_ONCE):
            block = self._weights[start : start + _ROWS_AT_ONCE]
            nearest = np.argsort(-np.abs(block), axis=1, kind="stable")[:, :num_kept]
            nearest.sort(axis=1)
            ends = np.arange(0, nearest.size + 1, num_kept)
            values = np.take_along_axis(block, nearest, axis=1).ravel()
            rows.append(sp.csr_array((values, nearest.ravel().astype(np.int32), ends), shape=block.shape))
        other = copy.copy(self)
        other._weights, other.neighbours = sp.vstack(rows, format="csr"), neighbours
        return other

    @property
    def card(self) -> dict:
        """The settings, and how many weights an item kept where it did not keep all."""
        return super().card | ({} if self.neighbours is None else {"neighbours": self.neighbours})

    def arrays(self) -> Arrays:
        """See `Baseline.arrays`. Raises ModelError for the whole matrix: `thinned` first."""
        if isinstance(self._weights, np.ndarray):
            raise ModelError("EASE-R keeps a matrix of all items with all items; keep a thinned one.")
        return {
            "order": self._order,
            **sparse_arrays("weights", self._weights),
            "neighbours": np.array([self.neighbours]),
        }

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """See `Baseline.with_arrays`."""
        self.num_items, self._order = num_items, arrays["order"]
        size = len(self._order)
        self._weights, self.neighbours = sparse_of("weights", arrays, (size, size)), int(arrays["neighbours"][0])
        return self

    def with_recency(self, recency: float) -> Self:
        """The same fitted model with another recency, sharing its matrix."""
        other = copy.copy(self)
        other.settings = self.checked({**self.settings.model_dump(), "recency": recency})
        return other

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        history = recency_rows(requests.histories, self.num_items, self.settings.recency)
        scores = np.zeros((len(requests), self.num_items), np.float32)
        product = history[:, self._order].astype(np.float32) @ self._weights
        scores[:, self._order] = product if isinstance(product, np.ndarray) else product.toarray()
        return scores


class LowRankEaseR(Baseline):
    """EASE-R's low-rank embeddings as a recommender: score(i) = sum over the history of recency^a <embedding, embedding_i>.

    What a language model's item embeddings may start from, so the one to beat for a model that does: training has to add to it. `dim`
    components keep what many items share and drop the rest, which on small data can beat all of EASE-R.
    """

    name = "low_rank_ease_r"
    Settings = EaseRFactorsSettings

    def fit(self, interactions: Interactions) -> Self:
        """See `ease_r_embeddings`."""
        self.num_items = interactions.num_items
        settings = self.settings
        self._embeddings = ease_r_embeddings(interactions, settings.dim, regularisation=settings.regularisation)
        return self

    def item_embeddings(self) -> np.ndarray:
        """float32 (I, D)."""
        return self._embeddings

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        history = recency_rows(requests.histories, self.num_items, self.settings.recency).astype(np.float32)
        return (history @ self._embeddings) @ self._embeddings.T


def ease_r_embeddings(interactions: Interactions, dim: int, *, regularisation: float = 100.0) -> np.ndarray:
    """EASE-R's low-rank embeddings of the items, to initialise a model with: float32 (I, dim), largest component first.

    Their inner products are the best approximation of rank dim to the items' partial correlations
    C = I - D^-1/2 P D^-1/2, D = diag P, which is B made symmetric (C_ij = B_ij sqrt(P_jj / P_ii)) and unlike B does
    not depend on how popular either item is. Items without an event get zeros, and so do dimensions beyond the items with one.
    As a recommender with recency .6 they come close to B: validation R@10 .207 at dim 64 on MovieLens-100K (B: .170),
    .064 / .083 / .092 at 64 / 256 / 576 on Amazon Beauty (B: .099; cosines of co-occurrence: .028 at 64).
    No inverse is made of more than some thousand items, unless the data are dense (`item_inverse.inverse_diagonal`).
    """
    items, seen = seen_items(interactions)
    # The largest eigenvalues of C belong to the largest of its inverse-side twin D^1/2 (X'X + lambda I) D^1/2, which
    # is sparse: eigenvalue m there is 1 - 1 / m here.
    diagonal = inverse_diagonal(seen, regularisation)
    scaled = (seen @ sp.diags_array(np.sqrt(diagonal))).tocsr()
    values, vectors = largest_eigenpairs(scaled, regularisation * diagonal, min(dim, len(items)))
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])  # eigenvectors have no sign
    factors = np.zeros((interactions.num_items, dim), np.float32)
    factors[items, : len(values)] = vectors * np.sqrt(np.maximum(1 - 1 / values, 0))
    return factors


def seen_items(interactions: Interactions) -> tuple[np.ndarray, sp.csr_array]:
    """The items with an event, int64 (N,), and who has met them: float64 (users, N), 0 or 1."""
    items = np.flatnonzero(interactions.counts())
    rows, met = latest_places(interactions.histories, interactions.num_items)
    columns = np.searchsorted(items, met)
    return items, sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(interactions.num_users, len(items)))


def latest_places(histories: Histories, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and item of every distinct (row, item), row by row and latest first within a row: int64 (E,) each."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths)[::-1]
    items = histories.items[::-1]
    _, first = np.unique(rows * np.int64(num_items) + items, return_index=True)  # first from the back = the latest
    first.sort()
    # From the back the rows fall; a stable sort puts them in order and leaves each row latest first.
    order = np.argsort(rows[first], kind="stable")
    return rows[first][order], items[first][order]


def recency_rows(histories: Histories, num_items: int, recency: float) -> sp.csr_array:
    """(U, I) with recency^a at each row's distinct items, a counted from the latest."""
    rows, items = latest_places(histories, num_items)
    age = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return sp.csr_array((recency**age, (rows, items)), shape=(len(histories), num_items))


class _Watched:
    """What a person sees of a long computation: a bar on a terminal, else one line with an estimate, on standard error."""

    def __init__(self, what: str) -> None:
        self._what, self._start, self._said = what, time.monotonic(), False
        self._bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task(f"fitting {self._what}", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, share: float) -> None:
        """share: of the work that is done, in [0, 1]. The clock of the estimate starts at 0."""
        if not share:
            self._start = time.monotonic()
            return
        self._bar.update(self._task, completed=share)
        seconds = (time.monotonic() - self._start) / share
        if self._bar.disable and not self._said and seconds > SAID_FROM:
            print(f"fitting {self._what}: about {seconds:.0f} s ...", file=sys.stderr)
        self._said = True  # the first estimate is as good as later ones
