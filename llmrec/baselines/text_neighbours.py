"""Text neighbours: the items whose words are nearest to those of the history's latest items. Learns nothing from events. No torch.

Letters: U requests, I items, W words.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from llmrec.baselines.baseline import Arrays, Baseline, sparse_arrays, sparse_of
from llmrec.baselines.ease_r import latest_places
from llmrec.config import Settings
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.encoders.tf_idf import fitted_tf_idf
from llmrec.errors import ConfigError, DataError
from llmrec.recommenders.requests import Requests


class TextNeighboursSettings(Settings):
    """How fast a history's older events lose weight (1: not at all), and how many of its latest items are looked at."""

    recency: float = Field(0.6, gt=0, le=1)
    latest: int = Field(50, ge=1)


class TextNeighbours(Baseline):
    """score(j) = sum over the latest items i of recency^a cos(i, j), a counted from the latest event, a repeat once at its latest.

    The vectors are the items' TF-IDF rows themselves, a place for every word (`encoders.tf_idf`): on Beauty their validation NDCG@10 is
    .044 where 384 directions of them have .032 (3,000 users). An item is no neighbour of its own. Items without training events are
    scored like all others: this is what words alone are worth.
    """

    name = "text_neighbours"
    Settings = TextNeighboursSettings
    by_events = False

    def __init__(self, *, vectors: np.ndarray | sp.csr_array | None = None, **settings: object) -> None:
        """vectors: float (I, W), of any length, zeros for an item without one; None where `read` will make them."""
        super().__init__(**settings)
        self.vectors = None if vectors is None else _of_length_one(sp.csr_array(vectors))

    def read(self, catalog: Catalog) -> Self:
        """Takes the TF-IDF of the words of these items."""
        texts = catalog.texts()
        self.vectors = _of_length_one(fitted_tf_idf(texts).rows(texts))
        return self

    def fit(self, interactions: Interactions) -> Self:
        """Nothing is learned. Raises ConfigError without vectors, DataError where they are of other items."""
        if self.vectors is None:
            raise ConfigError(
                f"{self.name} compares what is said of items: give their vectors, or the catalogue to `read`."
            )
        if self.vectors.shape[0] != interactions.num_items:
            raise DataError(f"there are {self.vectors.shape[0]} vectors, but {interactions.num_items} items.")
        self.num_items = interactions.num_items
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        rows, items = latest_places(requests.histories, self.num_items)
        age = np.arange(len(rows)) - np.searchsorted(rows, rows)
        rows, items, age = (each[age < self.settings.latest] for each in (rows, items, age))
        weights = (self.settings.recency**age).astype(np.float32)
        history = sp.csr_array((weights, (rows, items)), shape=(len(requests), self.num_items))
        scores = (history @ self.vectors @ self.vectors.T).toarray()
        has_words = np.diff(self.vectors.indptr) > 0
        scores[rows, items] -= weights * has_words[items]  # an item's likeness to itself
        return scores

    def arrays(self) -> Arrays:
        """See `Baseline.arrays`."""
        return {**sparse_arrays("vectors", self.vectors), "num_words": np.array([self.vectors.shape[1]])}

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """See `Baseline.with_arrays`."""
        self.num_items, num_words = num_items, int(arrays["num_words"][0])
        self.vectors = sparse_of("vectors", arrays, (num_items, num_words))
        return self


def _of_length_one(vectors: sp.csr_array) -> sp.csr_array:
    lengths = np.sqrt((vectors**2).sum(axis=1))
    scaled = sp.diags_array(np.divide(1, lengths, out=np.zeros(len(lengths)), where=lengths > 0)) @ vectors
    scaled.eliminate_zeros()
    return sp.csr_array(scaled, dtype=np.float32)
