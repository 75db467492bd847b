"""What SASRec, GRU4Rec and BERT4Rec share: settings, windows of histories, training, validation, refit, scores.

Letters: U requests, I items, N positions of all sequences of a batch, M positions that are asked, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from llmrec import metrics
from llmrec.baselines.baseline import TrainedBaseline
from llmrec.config import Seed, Settings
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import Instances
from llmrec.errors import ConfigError, DataError
from llmrec.fit import Criterion, Schedule, best_step, fit, steps_an_epoch
from llmrec.nn.item_inputs import ItemInputs, ItemMatrices
from llmrec.nn.losses import all_items_loss, sampled_items_loss
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import SequenceNetwork
from llmrec.recommenders.requests import Requests, allowed_items

SCORED_AT_ONCE = 512  # requests
CRITERIA = {"ndcg@10": Criterion("ndcg@10", greater_is_better=True), "loss": Criterion("loss", greater_is_better=False)}


class SequenceSettings(Settings):
    """What the networks of item sequences share: widths, the objective, its training."""

    dim: int = Field(64, ge=1)
    max_length: int = Field(50, ge=2)  # items, the latest
    num_layers: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    loss: Literal["full", "sampled"] = "full"  # softmax over all items, or over the target and sampled ones
    num_negatives: int = Field(1024, ge=1)  # of the sampled softmax, drawn anew for every step
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)  # windows of max_length items
    epochs: int = Field(200, ge=1)  # at most
    validate_every: int = Field(2, ge=1)  # epochs
    patience: int = Field(4, ge=1)  # validations without a better one
    monitor: Literal["ndcg@10", "loss"] = "ndcg@10"  # what validation chooses the epochs by
    use_ids: bool = True
    seed: Seed = 0


class SequenceBaseline(TrainedBaseline):
    """Scores are inner products of a state that has read the history with every item's vector, which is also what the network reads.

    Longer histories are cut into windows, so that every event is a target. Items without a training event share one vector.
    """

    Settings = SequenceSettings
    shown_name: str

    def __init__(self, *, item_inputs: ItemMatrices | None = None, **settings: object) -> None:
        """item_inputs: frozen matrices by name, float32 (I, D_f) and presence bool (I,), with or instead of trained embeddings."""
        super().__init__(**settings)
        if not self.settings.use_ids and not item_inputs:
            raise ConfigError(
                f"{self.shown_name} without ids (use_ids=false) needs at least one matrix of item features."
            )
        self.item_inputs = item_inputs or {}

    @classmethod
    def from_settings(cls, settings: SequenceSettings, *, item_inputs: ItemMatrices | None = None) -> Self:
        """See `Baseline.from_settings`; item_inputs as for the constructor."""
        return cls(item_inputs=item_inputs, **dict(settings))

    @property
    def card(self) -> dict:
        """Settings, features, and the number of epochs once it is known."""
        return {**super().card, "features": list(self.item_inputs)}

    @abstractmethod
    def _network(self, inputs: ItemInputs) -> SequenceNetwork:
        """The network of these settings, with new weights."""

    @abstractmethod
    def _questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        """What the network reads of a batch of windows, the positions that are asked, int64 (M,), and their items, int64 (M,)."""

    @abstractmethod
    def _asked(self, histories: list[np.ndarray]) -> Packed:
        """What the network reads of whole histories, none empty, so that the latest position of each says what comes next."""

    # ------------------------------------------------------------------------------------------------------- learning

    def fit(self, interactions: Interactions, *, valid: Instances | None = None, folder: Path | None = None) -> Self:
        """See `TrainedBaseline.fit`. torch's global random state is left as it was.

        Raises DataError where no user has two events, or a matrix has other rows than the items.
        """
        events, known = interactions, interactions.counts() > 0
        if valid is None:
            events, valid = _last_held_back(interactions)
        if not len(valid):
            raise DataError(
                f"{self.shown_name} needs a user with three events or more, whose last one tells when to stop, but there is none."
            )
        windows = self._windows(events)
        self.validations = self._train(windows, known, self.settings.epochs, valid, folder)
        chosen = best_step(self.validations, CRITERIA[self.settings.monitor])
        self.epochs_chosen, self.is_refit = chosen / steps_an_epoch(len(windows), self.settings.batch_size), False
        return self

    def refit(self, interactions: Interactions, *, folder: Path | None = None) -> Self:
        """See `TrainedBaseline.refit`."""
        if self.epochs_chosen is None:
            raise ConfigError(f"a refit needs to know for how many epochs: fit {self.shown_name} first.")
        self._train(self._windows(interactions), interactions.counts() > 0, self.epochs_chosen, None, folder)
        self.is_refit = True
        return self

    def _windows(self, events: Interactions) -> list[np.ndarray]:
        windows = _windows(events.histories, self.settings.max_length + 1)
        if not windows:
            raise DataError(f"{self.shown_name} learns from users with two events or more, but these data have none.")
        return windows

    def _train(
        self, windows: list[np.ndarray], known: np.ndarray, epochs: float, valid: Instances | None, folder: Path | None
    ) -> list[dict[str, float]]:
        """A new network from the seed, for so many epochs at most. known: bool (I,), items with an event."""
        settings, self.num_items = self.settings, len(known)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = self._network(self._inputs(known))
        between = settings.validate_every * steps_an_epoch(len(windows), settings.batch_size)
        schedule = Schedule(settings.batch_size, epochs, settings.patience, lambda step: step % between == 0)
        last = schedule.num_steps(len(windows))
        schedule = replace(schedule, validate_after=lambda step: step % between == 0 or step == last)
        return fit(
            self.network,
            lambda rows: self._loss(Packed.of([windows[row] for row in rows])),
            len(windows),
            torch.optim.Adam(self.network.parameters(), lr=settings.lr, betas=(0.9, 0.98), fused=True),
            schedule,
            validate=None if valid is None else lambda: self._validate(valid),
            criterion=CRITERIA[settings.monitor],
            seed=settings.seed,
            name=self.shown_name,
            folder=folder,
        )

    def _inputs(self, known: np.ndarray) -> ItemInputs:
        """known: bool (I,), items with an event; the others read the row of unknown items."""
        settings = self.settings
        for name, (matrix, _) in self.item_inputs.items():
            if len(matrix) != self.num_items:
                raise DataError(f"the features '{name}' have {len(matrix)} rows, but there are {self.num_items} items.")
        widths = {name: matrix.shape[1] for name, (matrix, _) in self.item_inputs.items()}
        # Glorot's rule for the matrix of all items: scores of all items start near one another, which full softmax wants.
        std = (2 / (self.num_items + settings.dim)) ** 0.5
        inputs = ItemInputs(self.num_items, settings.dim, widths, use_ids=settings.use_ids, std=std)
        for name, (matrix, present) in self.item_inputs.items():
            inputs.frozen(name).fit(matrix, present)
        if settings.use_ids:
            inputs.fields[0].known.copy_(torch.from_numpy(known))
        return inputs

    def _loss(self, windows: Packed) -> tuple[torch.Tensor, int]:
        """-log p(item), summed over all positions that are asked, and how many they are."""
        packed, asked, targets = self._questions(windows)
        vectors = self.network.item_vectors()
        states = self.network(packed, vectors)[asked]
        if self.settings.loss == "full":
            return all_items_loss(states, vectors, targets), len(targets)
        negatives = torch.randint(self.num_items, (self.settings.num_negatives,))
        return sampled_items_loss(states, vectors, targets, negatives), len(targets)

    @torch.inference_mode()
    def _validate(self, valid: Instances) -> dict[str, float]:
        """-log p(target) among all items, and NDCG@10 where other items of the history are filtered; means over the instances."""
        requests, targets, loss, gains = Requests.from_instances(valid), valid.targets.astype(np.int64), 0.0, []
        for rows in np.split(np.arange(len(valid)), range(SCORED_AT_ONCE, len(valid), SCORED_AT_ONCE)):
            some, scores = requests.take(rows), self.scores(requests.take(rows))
            own = torch.from_numpy(targets[rows])
            loss += F.cross_entropy(torch.from_numpy(scores), own, reduction="sum").item()
            allowed = allowed_items(some, self.num_items, exclude_seen=True)
            allowed[np.arange(len(rows)), targets[rows]] = True
            if np.isfinite(loss):  # what has diverged has no ranks, and `fit` says so
                gains.append(metrics.ndcg(*metrics.ranks_from_scores(scores, targets[rows], allowed), 10))
        is_finite = np.isfinite(loss)
        return {
            "loss": loss / len(valid),
            "ndcg@10": float(np.concatenate(gains).mean()) if is_finite else float("nan"),
        }

    # -------------------------------------------------------------------------------------------------------- scoring

    @torch.inference_mode()
    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        scores, vectors = np.zeros((len(requests), self.num_items), np.float32), self.network.item_vectors()
        there = np.flatnonzero(requests.histories.lengths)
        for rows in np.split(there, range(SCORED_AT_ONCE, len(there), SCORED_AT_ONCE)):
            if len(rows):
                packed = self._asked([requests.histories[row] for row in rows])
                states = self.network(packed, vectors)[packed.last]
                scores[rows] = (states @ vectors.T).numpy()
        return scores

    @torch.inference_mode()
    def item_embeddings(self) -> np.ndarray:
        """float32 (I, dim)."""
        return self.network.item_vectors().numpy()


def _windows(histories: Histories, width: int) -> list[np.ndarray]:
    """Every history cut from its end into pieces of at most `width` items that overlap by one; none is shorter than two."""
    return [
        row[max(0, end - width) : end]
        for row in (histories[user] for user in np.flatnonzero(histories.lengths >= 2))
        for end in range(len(row), 1, 1 - width)
    ]


def _last_held_back(interactions: Interactions) -> tuple[Interactions, Instances]:
    """The events without the last of each user with three or more, and those as what validation asks."""
    lengths = interactions.lengths
    users = np.flatnonzero(lengths >= 3)
    train = interactions.first(lengths - (lengths >= 3))
    last = interactions.indptr[users + 1] - 1
    return train, Instances(users.astype(np.int32), train.histories.take(users), interactions.items[last], None)


def check_heads(name: str, dim: int, num_heads: int) -> None:
    """Raises ConfigError where a width does not split into heads."""
    if dim % num_heads:
        raise ConfigError(f"{name}'s dim ({dim}) should be a multiple of num_heads ({num_heads}).")
