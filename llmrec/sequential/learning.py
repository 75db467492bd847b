"""How a network of item sequences learns: windows of histories, the loss, validation, training, refit.

Letters: I items, D_f width of a matrix of features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from llmrec import metrics
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import Instances
from llmrec.errors import ConfigError, DataError
from llmrec.fit import Criterion, Schedule, best_step, fit, steps_an_epoch
from llmrec.nn.item_inputs import ItemMatrices
from llmrec.nn.losses import all_items_loss, sampled_items_loss
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import SequenceNetwork
from llmrec.recommenders.requests import Requests, allowed_items
from llmrec.sequential.recommender import SCORED_AT_ONCE, SequentialRecommender, make_network
from llmrec.sequential.settings import AttentionSettings, SequenceSettings

CRITERIA = {"ndcg@10": Criterion("ndcg@10", greater_is_better=True), "loss": Criterion("loss", greater_is_better=False)}
Validate = Callable[[SequentialRecommender], dict[str, float]]  # metric name -> value; among them the monitored one


def check_inputs(settings: SequenceSettings, features: ItemMatrices) -> None:
    """Raises ConfigError for settings that make no network."""
    if not settings.use_ids and not features:
        raise ConfigError(
            f"{settings.shown_name} without ids (use_ids=false) needs at least one matrix of item features."
        )
    if isinstance(settings, AttentionSettings):
        settings.check_heads()


@dataclass(frozen=True)
class Learned:
    """What `learn` came to. validations: what each of them found; epochs: how many were chosen, which may be a fraction."""

    recommender: SequentialRecommender
    validations: list[dict[str, float]]
    epochs: float


@dataclass(frozen=True, eq=False)
class Learner:
    """One training: from these events, with these matrices of features, float32 (I, D_f) and presence bool (I,) by name.

    Longer histories are cut into windows, so that every event is a target. Items without an event share one vector. torch's global
    random state is left as it was.
    """

    settings: SequenceSettings
    events: Interactions
    features: ItemMatrices

    def learn(self, validate: Validate, *, folder: Path | None = None) -> Learned:
        """The state of the best validation. folder: where the training is kept meanwhile, so that a killed one goes on; None: nowhere.

        Raises DataError where no user has two events, or a matrix has other rows than the items; what else `fit` raises.
        """
        windows = self.windows()
        recommender, validations = self._train(windows, self.settings.epochs, validate, folder)
        chosen = best_step(validations, CRITERIA[self.settings.monitor])
        epochs = chosen / steps_an_epoch(len(windows), self.settings.batch_size)
        recommender.facts |= {"epochs_chosen": epochs, "refit": False}
        return Learned(recommender, validations, epochs)

    def relearn(self, epochs: float, *, folder: Path | None = None) -> SequentialRecommender:
        """The state after just so many epochs, with no validation: the refit on all that may be learned from."""
        recommender, _ = self._train(self.windows(), epochs, None, folder)
        recommender.facts |= {"epochs_chosen": epochs, "refit": True}
        return recommender

    def windows(self) -> list[np.ndarray]:
        """The training examples: each history cut into pieces of at most max_length + 1 items."""
        windows = cut_into_windows(self.events.histories, self.settings.max_length + 1)
        if not windows:
            raise DataError(
                f"{self.settings.shown_name} learns from users with two events or more, but these data have none."
            )
        return windows

    def _train(
        self, windows: list[np.ndarray], epochs: float, validate: Validate | None, folder: Path | None
    ) -> tuple[SequentialRecommender, list[dict[str, float]]]:
        """A new network from the seed, for so many epochs at most, and what its validations found."""
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = self._network()
        recommender = SequentialRecommender(network, settings, {})
        between = settings.validate_every * steps_an_epoch(len(windows), settings.batch_size)
        schedule = Schedule(settings.batch_size, epochs, settings.patience, lambda step: step % between == 0)
        last = schedule.num_steps(len(windows))
        schedule = replace(schedule, validate_after=lambda step: step % between == 0 or step == last)
        validations = fit(
            network,
            lambda rows: loss_of(network, settings, Packed.of([windows[row] for row in rows])),
            len(windows),
            torch.optim.Adam(network.parameters(), lr=settings.lr, betas=(0.9, 0.98), fused=True),
            schedule,
            validate=None if validate is None else lambda: validate(recommender),
            criterion=CRITERIA[settings.monitor],
            seed=settings.seed,
            name=settings.shown_name,
            folder=folder,
        )
        return recommender, validations

    def _network(self) -> SequenceNetwork:
        """With its matrices; items without an event read the row of unknown items."""
        num_items = self.events.num_items
        for name, (matrix, _) in self.features.items():
            if len(matrix) != num_items:
                raise DataError(f"the features '{name}' have {len(matrix)} rows, but there are {num_items} items.")
        widths: Mapping[str, int] = {name: matrix.shape[1] for name, (matrix, _) in self.features.items()}
        network = make_network(self.settings, num_items, widths)
        for name, (matrix, present) in self.features.items():
            network.inputs.frozen(name).fit(matrix, present)
        if self.settings.use_ids:
            network.inputs.fields[0].known.copy_(torch.from_numpy(self.events.counts() > 0))
        return network


def loss_of(network: SequenceNetwork, settings: SequenceSettings, windows: Packed) -> tuple[torch.Tensor, int]:
    """-log p(item), summed over all positions that are asked, and how many they are."""
    packed, asked, targets = network.questions(windows)
    vectors = network.item_vectors()
    states = network(packed, vectors)[asked]
    if settings.loss == "full":
        return all_items_loss(states, vectors, targets), len(targets)
    negatives = torch.randint(network.num_items, (settings.num_negatives,))
    return sampled_items_loss(states, vectors, targets, negatives), len(targets)


def validation_of(valid: Instances) -> Validate:
    """-log p(target) among all items, and NDCG@10 where other items of the history are filtered; means over the instances."""
    requests, targets = Requests.from_instances(valid), valid.targets.astype(np.int64)

    @torch.inference_mode()
    def validate(recommender: SequentialRecommender) -> dict[str, float]:
        loss, gains = 0.0, []
        for rows in np.split(np.arange(len(valid)), range(SCORED_AT_ONCE, len(valid), SCORED_AT_ONCE)):
            some, scores = requests.take(rows), recommender.scores(requests.take(rows))
            own = torch.from_numpy(targets[rows])
            loss += F.cross_entropy(torch.from_numpy(scores), own, reduction="sum").item()
            allowed = allowed_items(some, recommender.num_items, exclude_seen=True)
            allowed[np.arange(len(rows)), targets[rows]] = True
            if np.isfinite(loss):  # what has diverged has no ranks, and `fit` says so
                gains.append(metrics.ndcg(*metrics.ranks_from_scores(scores, targets[rows], allowed), 10))
        is_finite = np.isfinite(loss)
        return {
            "loss": loss / len(valid),
            "ndcg@10": float(np.concatenate(gains).mean()) if is_finite else float("nan"),
        }

    return validate


def cut_into_windows(histories: Histories, width: int) -> list[np.ndarray]:
    """Every history cut from its end into pieces of at most `width` items that overlap by one; none is shorter than two."""
    return [
        row[max(0, end - width) : end]
        for row in (histories[user] for user in np.flatnonzero(histories.lengths >= 2))
        for end in range(len(row), 1, 1 - width)
    ]


def last_held_back(interactions: Interactions) -> tuple[Interactions, Instances]:
    """The events without the last of each user with three or more, and those as what validation asks."""
    lengths = interactions.lengths
    users = np.flatnonzero(lengths >= 3)
    train = interactions.first(lengths - (lengths >= 3))
    last = interactions.indptr[users + 1] - 1
    return train, Instances(users.astype(np.int32), train.histories.take(users), interactions.items[last], None)
