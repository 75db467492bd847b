"""Popularity, exact in float64. No torch. Letters: U requests, I items."""

from __future__ import annotations

from typing import Self

import numpy as np

from llmrec.baselines.baseline import Arrays, Baseline, counts_in
from llmrec.data.interactions import Interactions
from llmrec.recommenders.requests import Requests


class Popularity(Baseline):
    """score(i) = number of training events of i, for everybody."""

    name = "popularity"

    def fit(self, interactions: Interactions) -> Self:
        """Count the events."""
        self.num_items = interactions.num_items
        self.counts = interactions.counts().astype(np.float64)  # (I,)
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I)."""
        return np.tile(self.counts, (len(requests), 1))

    def arrays(self) -> Arrays:
        """See `Baseline.arrays`."""
        return {"counts": self.counts}

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """See `Baseline.with_arrays`."""
        self.num_items, self.counts = num_items, counts_in(arrays, num_items)
        return self
