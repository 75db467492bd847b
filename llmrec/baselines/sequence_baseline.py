"""What SASRec, GRU4Rec and BERT4Rec share as baselines: networks of `llmrec.sequential`, fitted like any other baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from llmrec.baselines.baseline import TrainedBaseline
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Instances
from llmrec.errors import ConfigError, DataError
from llmrec.nn.item_inputs import ItemMatrices
from llmrec.recommenders.requests import Requests
from llmrec.sequential.learning import Learner, check_inputs, last_held_back, validation_of
from llmrec.sequential.recommender import SequentialRecommender
from llmrec.sequential.settings import SequenceSettings


class SequenceBaseline(TrainedBaseline):
    """A `SequentialRecommender`, made of settings and fitted by name. sequential: what was learned, once it is fitted."""

    Settings = SequenceSettings
    sequential: SequentialRecommender

    def __init__(self, *, item_inputs: ItemMatrices | None = None, **settings: object) -> None:
        """item_inputs: frozen matrices by name, float32 (I, D_f) and presence bool (I,), with or instead of trained embeddings."""
        super().__init__(**settings)
        self.item_inputs = item_inputs or {}
        check_inputs(self.settings, self.item_inputs)

    @classmethod
    def from_settings(cls, settings: SequenceSettings, *, item_inputs: ItemMatrices | None = None) -> Self:
        """See `Baseline.from_settings`; item_inputs as for the constructor."""
        return cls(item_inputs=item_inputs, **dict(settings))

    @property
    def card(self) -> dict:
        """Settings, features, and the number of epochs once it is known."""
        return {**super().card, "features": list(self.item_inputs)}

    def fit(self, interactions: Interactions, *, valid: Instances | None = None, folder: Path | None = None) -> Self:
        """See `TrainedBaseline.fit`. torch's global random state is left as it was.

        Raises DataError where no user has two events, or a matrix has other rows than the items.
        """
        events = interactions
        if valid is None:
            events, valid = last_held_back(interactions)
        if not len(valid):
            raise DataError(
                f"{self.settings.shown_name} needs a user with three events or more, whose last one tells when to stop, but there is "
                "none."
            )
        learned = Learner(self.settings, events, self.item_inputs).learn(validation_of(valid), folder=folder)
        self._take(learned.recommender)
        self.validations, self.epochs_chosen, self.is_refit = learned.validations, learned.epochs, False
        return self

    def refit(self, interactions: Interactions, *, folder: Path | None = None) -> Self:
        """See `TrainedBaseline.refit`."""
        if self.epochs_chosen is None:
            raise ConfigError(f"a refit needs to know for how many epochs: fit {self.settings.shown_name} first.")
        learner = Learner(self.settings, interactions, self.item_inputs)
        self._take(learner.relearn(self.epochs_chosen, folder=folder))
        self.is_refit = True
        return self

    def _take(self, sequential: SequentialRecommender) -> None:
        self.sequential, self.num_items = sequential, sequential.num_items

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        scores = self.sequential.scores(requests)
        scores[requests.histories.lengths == 0] = 0
        return scores

    def item_embeddings(self) -> np.ndarray:
        """float32 (I, dim)."""
        return self.sequential.item_vectors()
