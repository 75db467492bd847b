"""Models of the package `implicit` (pm-implicit): item-kNN by TF-IDF, BM25 or cosine, ALS, BPR. See exchange.py."""

from __future__ import annotations

import warnings

import numpy as np
from exchange import Asked, Events, Peer, main
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from implicit.utils import ParameterWarning

WEIGHTINGS = {"tfidf": TFIDFRecommender, "bm25": BM25Recommender, "cosine": CosineRecommender}


class ItemKNN(Peer):
    """The history's items times the similarity matrix, as `recommend` does. recency: of the history's weights, ours, 1 for none."""

    def fit(self, events: Events) -> dict:
        """K nearest items of each item."""
        self.recency, weighting = self.settings.pop("recency"), self.settings.pop("weighting")
        self.model = WEIGHTINGS[weighting](num_threads=1, **self.settings)
        self.model.fit(events.matrix(), show_progress=False)
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I), 0 for items that are no neighbour of any."""
        return (asked.matrix(self.recency)[rows] @ self.model.similarity).toarray()


class ALS(Peer):
    """The user's factors are solved anew from the history that is asked (`recalculate_user`)."""

    def fit(self, events: Events) -> dict:
        """All sweeps."""
        self.model = AlternatingLeastSquares(num_threads=1, random_state=self.seed, **self.settings)
        self.model.fit(events.matrix(), show_progress=False)
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I)."""
        histories = asked.matrix()[rows]
        factors = self.model.recalculate_user(np.arange(histories.shape[0]), histories)
        return factors @ self.model.item_factors.T


class BPR(Peer):
    """The user's factors are those of training: what came later is not read."""

    def fit(self, events: Events) -> dict:
        """All sweeps."""
        self.model = BayesianPersonalizedRanking(num_threads=1, random_state=self.seed, **self.settings)
        self.model.fit(events.matrix(), show_progress=False)
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I)."""
        return self.model.user_factors[asked.users[rows]] @ self.model.item_factors.T


if __name__ == "__main__":
    warnings.simplefilter("ignore", ParameterWarning)  # item-kNN gives itself a matrix of another kind, and says so
    main({"item_knn": ItemKNN, "als": ALS, "bpr": BPR}, ("pm-implicit", "numpy", "scipy"))
