"""A first-order Markov chain, exact in float64. No torch. Letters: U requests, I items."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp

from llmrec.baselines.baseline import Arrays, Baseline, counts_in, sparse_arrays, sparse_of
from llmrec.data.interactions import Interactions
from llmrec.recommenders.requests import Requests


class Markov(Baseline):
    """score(i) = count(last item -> i as adjacent training events) + 1e-6 popularity(i)."""

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

    def arrays(self) -> Arrays:
        """See `Baseline.arrays`."""
        return {"counts": self.counts, **sparse_arrays("follows", self.follows)}

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """See `Baseline.with_arrays`."""
        self.num_items, self.counts = num_items, counts_in(arrays, num_items)
        self.follows = sparse_of("follows", arrays, (num_items, num_items))
        return self
