"""Item-kNN: the nearest items by who has met them, weighted by TF-IDF, BM25 or not at all. scipy.sparse, no torch.

Letters: U requests or users, I items, K neighbours.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from llmrec.baselines.baseline import Arrays, Baseline, DoesNotFit, sparse_arrays, sparse_of
from llmrec.baselines.ease_r import recency_rows
from llmrec.config import Settings
from llmrec.data.interactions import Interactions
from llmrec.memory import free_machine_bytes
from llmrec.recommenders.requests import Requests

_AT_ONCE = 1024  # rows of the product of all items with all items
_BYTES_A_NEIGHBOUR = 12  # float64 and int32


class ItemKnnSettings(Settings):
    """How items are compared, and how fast a history's older events lose weight (1: not at all)."""

    weights: Literal["tf_idf", "bm25", "cosine"] = "tf_idf"
    neighbours: int = Field(200, ge=1)  # K
    recency: float = Field(0.6, gt=0, le=1)
    bm25_k1: float = Field(1.2, gt=0)  # how soon more events of one user with one item stop to count
    bm25_b: float = Field(0.75, ge=0, le=1)  # how much popular items are held down


class ItemKnn(Baseline):
    """score(j) = sum over the history of recency^a s(i, j), where j is one of the K nearest of the history's item i.

    s(i, j) is the inner product of the items' rows over users; a counts from the latest event, a repeat once at its latest
    position. With n(i, u) events of user u with item i, idf(u) = ln(I / (1 + number of items u has met)) and |i| events of i:

    tf_idf: sqrt(n) idf(u), rows of length 1. cosine: n, rows of length 1.
    bm25: n (k1 + 1) / (k1 (1 - b + b |i| / mean) + n) idf(u), rows as long as they are.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001, with the K neighbours taken of what is in
    the history, and the weights of the package `implicit`; BM25: Robertson and Zaragoza, "The probabilistic relevance framework: BM25
    and beyond", 2009. An item is no neighbour of its own.
    """

    name = "item_knn"
    Settings = ItemKnnSettings

    def fit(self, interactions: Interactions) -> Self:
        """Products of all items with all items, of which K an item are kept; of equal ones those of lower item number.

        Raises DoesNotFit where the neighbours of all items would not fit into the memory that this process may take.
        """
        self.num_items = interactions.num_items
        rows = self._weighted(interactions)  # (I, U)
        pairs_an_item = min(self.settings.neighbours, self.num_items - 1)
        _check_memory(int((np.diff(rows.indptr) > 0).sum()) * pairs_an_item, self.num_items)
        across = rows.T.tocsr()
        strips = [
            self._nearest(rows[start : start + _AT_ONCE] @ across, start)
            for start in range(0, self.num_items, _AT_ONCE)
        ]
        self.similarity = sp.vstack(strips, format="csr")  # row i: the K nearest of i
        return self

    def _weighted(self, interactions: Interactions) -> sp.csr_array:
        """Items by users, float64 (I, U)."""
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
        shape = (interactions.num_items, interactions.num_users)
        counts = sp.coo_array((np.ones(len(users)), (interactions.items, users)), shape=shape).tocsr()  # sums repeats
        items_of_user = np.bincount(counts.indices, minlength=shape[1])
        # a user who has met all items but one says nothing, and one who has met them all says less than nothing
        idf = np.maximum(np.log(max(shape[0], 1)) - np.log1p(items_of_user), 0)[counts.indices]
        if self.settings.weights == "bm25":
            k1, b = self.settings.bm25_k1, self.settings.bm25_b
            sizes = counts.sum(axis=1)
            held_down = (1 - b + b * sizes / max(sizes.mean(), 1e-12))[
                np.repeat(np.arange(shape[0]), np.diff(counts.indptr))
            ]
            counts.data *= (k1 + 1) / (k1 * held_down + counts.data) * idf
            return counts
        if self.settings.weights == "tf_idf":
            counts.data = np.sqrt(counts.data) * idf
        lengths = np.sqrt((counts**2).sum(axis=1))
        return (sp.diags_array(np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)) @ counts).tocsr()

    def _nearest(self, products: sp.csr_array, start: int) -> sp.csr_array:
        """The K largest of each row, without the item itself: products (rows, I), of the items from `start` on."""
        rows = np.repeat(np.arange(products.shape[0]), np.diff(products.indptr))
        counted = (products.indices != rows + start) & (products.data > 0)
        rows, items, values = rows[counted], products.indices[counted], products.data[counted]
        order = np.lexsort((items, -values, rows))
        rows, items, values = rows[order], items[order], values[order]
        nearest = np.arange(len(rows)) - np.searchsorted(rows, rows) < self.settings.neighbours
        found = (values[nearest], (rows[nearest], items[nearest]))
        return sp.coo_array(found, shape=products.shape).tocsr()

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history scores 0 everywhere."""
        history = recency_rows(requests.histories, self.num_items, self.settings.recency)
        return (history @ self.similarity).toarray()

    def arrays(self) -> Arrays:
        """See `Baseline.arrays`."""
        return sparse_arrays("similarity", self.similarity)

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """See `Baseline.with_arrays`."""
        self.num_items = num_items
        self.similarity = sparse_of("similarity", arrays, (num_items, num_items))
        return self


def _check_memory(num_pairs: int, num_items: int) -> None:
    needed, free = 2 * _BYTES_A_NEIGHBOUR * num_pairs, free_machine_bytes()  # strips, and their whole
    if free is not None and needed > free:
        raise DoesNotFit(
            f"item-kNN on {num_items:,} items needs up to {needed / 1e9:.1f} GB for {num_pairs:,} neighbours, but "
            f"{free / 1e9:.1f} GB are free. Set fewer neighbours, or use a larger machine."
        )
