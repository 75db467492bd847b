"""Models of the package cornac: VAECF and BPR. See exchange.py.

Items without a training event are unknown to cornac: they score -inf, below all others and tied with one another.
"""

from __future__ import annotations

import cornac
import numpy as np
import scipy.sparse as sp
import torch
from exchange import Asked, Events, Peer, main

# cornac 2.2.1 reads csr_matrix.A while it trains, which SciPy 1.14 removed; RecTools wants SciPy 1.14.1 or later.
sp.csr_matrix.A = property(lambda matrix: matrix.toarray())


class OfCornac(Peer):
    """known: int64 (N,), our number of each of cornac's items; user_index: our number of a user -> cornac's."""

    def data_set(self, events: Events) -> cornac.data.Dataset:
        """The distinct (user, item), with cornac's own numbers."""
        pairs = np.unique(np.stack([events.users, events.items], axis=1), axis=0)
        data = cornac.data.Dataset.build([(user, item, 1.0) for user, item in pairs.tolist()], seed=self.seed)
        self.known = np.fromiter(data.iid_map, np.int64, len(data.iid_map))
        self.user_index = dict(data.uid_map)
        return data

    def spread(self, known: np.ndarray, num_items: int) -> np.ndarray:
        """Scores of cornac's items, float (R, N), as float32 (R, I)."""
        scores = np.full((len(known), num_items), -np.inf, np.float32)
        scores[:, self.known] = known
        return scores


class VAECF(OfCornac):
    """Encodes the history that is asked, as cornac's `score` does with a training user's: the mean of z, decoded."""

    def fit(self, events: Events) -> dict:
        """All epochs."""
        self.model = cornac.models.VAECF(seed=self.seed, use_gpu=False, **self.settings)
        self.model.fit(self.data_set(events))
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I)."""
        histories = torch.from_numpy(asked.matrix()[rows].toarray()[:, self.known])
        with torch.no_grad():
            mean, _ = self.model.vae.encode(histories)
            return self.spread(self.model.vae.decode(mean).numpy(), asked.num_items)


class BPR(OfCornac):
    """The user's factors are those of training: what came later is not read."""

    def fit(self, events: Events) -> dict:
        """All sweeps."""
        self.model = cornac.models.BPR(seed=self.seed, num_threads=1, **self.settings)
        self.model.fit(self.data_set(events))
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I); a user without a training event gets zeros."""
        nothing = np.zeros(len(self.known), np.float32)
        found = [self.user_index.get(user) for user in asked.users[rows].tolist()]
        return self.spread(
            np.stack([nothing if index is None else self.model.score(index) for index in found]), asked.num_items
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main({"vaecf": VAECF, "bpr": BPR}, ("cornac", "torch", "numpy", "scipy"))
