"""A model and EASE-R together: what the model lists is added, on a common scale, to the scores of EASE-R.

The small sibling of `stacked.Stacked`: two parts and one weight, with nothing to be learned, beside every run that is measured.

Letters: U requests, I items, W weights tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from llmrec.data.splits import Instances
from llmrec.errors import ConfigError
from llmrec.metrics import ndcg, ranks_from_scores
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, DenseRecommender, Ranker, Requests, allowed_items
from llmrec.recommenders.stacked import ListedScores, standardised

GRID = tuple(round(0.1 * step, 1) for step in range(11))


class Hybrid(DenseRecommender):
    """score = weight z(model) + (1 - weight) z(EASE-R), z standardised per request over the items that may be recommended.

    Every model is taken by its best `num_listed` items (`ListedScores`), also one that could score all: a generative model has no
    more, and log-probabilities far down the list, where their spread is largest, would drown EASE-R's.

    Standardised scores were chosen over reciprocal ranks and min-max by validation NDCG@10 on MovieLens-100K and 3,000
    Beauty users (a first-order Markov chain and a smoothed Markov model stood for the two parts): ranks forget how sure each side is
    (Beauty .0799 against .0767), min-max came close; log-probabilities of all items lose to the list (.103 against .107).
    """

    name = "hybrid"

    def __init__(self, model: Ranker, ease_r: DenseRecommender, weight: float = 0.5, num_listed: int = 20) -> None:
        """weight: of the model, in [0, 1]; num_listed: items the model is asked for (a beam search's width)."""
        if not 0 <= weight <= 1:
            raise ConfigError(
                f"the hybrid's weight should be from 0 (EASE-R alone) to 1 (the model alone), not {weight}."
            )
        if model.num_items != ease_r.num_items:
            raise ConfigError(
                f"the hybrid's parts should rank one catalogue, but '{model.name}' knows {model.num_items} items and "
                f"EASE-R {ease_r.num_items}. Fit both on the same data folder."
            )
        self.model, self.ease_r, self.weight, self.num_listed = model, ease_r, weight, num_listed
        self.num_items = model.num_items
        self.validation: dict[float, float] = {}  # NDCG@10 of each weight that fit_weight tried

    @property
    def card(self) -> dict:
        """The weight, how it was found, and both parts."""
        return {
            "weight": self.weight,
            "num_listed": self.num_listed,
            "validation_ndcg@10": {str(weight): value for weight, value in self.validation.items()},
            "model": {"name": self.model.name, **self.model.card},
            "ease_r": self.ease_r.card,
        }

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I) with nothing excluded; see `allowed_scores`."""
        return self.allowed_scores(requests, exclude_seen=False)[0]

    def allowed_scores(
        self, requests: Requests, *, exclude_seen: bool, candidates: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float64 (U, I) and allowed bool (U, I). The model lists, and both are standardised over, allowed items."""
        model, ease_r, allowed = self._parts(requests, exclude_seen, candidates)
        return self.weight * model + (1 - self.weight) * ease_r, allowed

    def fit_weight(
        self,
        instances: Instances,
        *,
        exclude_seen: bool = True,
        candidates: np.ndarray | None = None,
        grid: Sequence[float] = GRID,
        batches: Iterable[np.ndarray] | None = None,
    ) -> Self:
        """Sets the weight to the one of `grid` with the best NDCG@10 on the validation instances; of equals the least.

        Both parts must have been fitted without these instances (fit: train); EASE-R may be fitted again on more events
        afterwards, `Hybrid(model, refitted, weight)`. batches: row numbers of the instances (a progress bar over them, say), each
        instance once; None: REQUESTS_AT_ONCE at a time. The model lists each instance once, whatever the grid. Deterministic.
        """
        if batches is None:
            batches = np.split(np.arange(len(instances)), range(REQUESTS_AT_ONCE, len(instances), REQUESTS_AT_ONCE))
        requests = Requests.from_instances(instances)
        gains = np.zeros(len(grid))  # (W,)
        for rows in batches:
            model, ease_r, allowed = self._parts(requests.take(rows), exclude_seen, candidates)
            for w, weight in enumerate(grid):
                greater, equal = ranks_from_scores(
                    weight * model + (1 - weight) * ease_r, instances.targets[rows], allowed
                )
                gains[w] += ndcg(greater, equal, 10).sum()
        self.validation = {
            float(weight): float(gain) / len(instances) for weight, gain in zip(grid, gains, strict=True)
        }
        self.weight = max(sorted(self.validation), key=self.validation.__getitem__)
        return self

    def _parts(
        self, requests: Requests, exclude_seen: bool, candidates: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both sides' standardised scores, float64 (U, I) each, and allowed bool (U, I)."""
        allowed = allowed_items(requests, self.num_items, exclude_seen=exclude_seen, candidates=candidates)
        listed = ListedScores(self.model, self.num_listed)
        model, _ = listed.allowed_scores(requests, exclude_seen=exclude_seen, candidates=candidates)
        return standardised(model, allowed), standardised(self.ease_r.scores(requests), allowed), allowed
