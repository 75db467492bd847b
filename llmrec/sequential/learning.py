"""How a network of item sequences learns: windows of histories, the loss, validation, training, refit.

Letters: I items, D_f width of a matrix of features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
SCORES_AT_ONCE = 50_000_000  # of a validation: 200 MB
Report = Callable[[list[dict[str, float]]], None]  # see `fit`
# of a recommender that is about to learn, what is called again and again: metric name -> value; among them the monitored one
Validation = Callable[[SequentialRecommender], Callable[[], dict[str, float]]]


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

    Longer histories are cut into windows, so that every event is a target. Items without an event have no embedding and are in no
    softmax, so nothing teaches them away. torch's global random state is left as it was.
    """

    settings: SequenceSettings
    events: Interactions
    features: ItemMatrices

    def learn(self, validation: Validation, *, folder: Path | None = None, report: Report | None = None) -> Learned:
        """The state of the best validation. folder: where the training is kept meanwhile, so that a killed one goes on; None: nowhere.
        report: see `fit`.

        Raises DataError where no user has two events, or a matrix has other rows than the items; what else `fit` raises.
        """
        training = self.begin(self.settings.epochs)
        recommender = training.recommender
        validations = training.run(validation(recommender), folder, report)
        epochs = best_step(validations, CRITERIA[self.settings.monitor]) / training.an_epoch
        recommender.facts |= {"epochs_chosen": epochs, "refit": False}
        return Learned(recommender, validations, epochs)

    def relearn(self, epochs: float, *, folder: Path | None = None) -> SequentialRecommender:
        """The state after just so many epochs, with no validation: the refit on all that may be learned from."""
        training = self.begin(epochs)
        training.run(None, folder, None)
        training.recommender.facts |= {"epochs_chosen": epochs, "refit": True}
        return training.recommender

    def begin(self, epochs: float) -> Training:
        """A new network from the seed, and all that it takes to train it for so many epochs at most."""
        windows, seen = self.windows(), self.events.counts() > 0
        settings = self.settings.settled(np.count_nonzero(seen))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = self._network(seen)
        return Training(SequentialRecommender(network, settings, {}), windows, epochs)

    def windows(self) -> list[np.ndarray]:
        """The training examples: each history cut into pieces of at most max_length + 1 items."""
        windows = cut_into_windows(self.events.histories, self.settings.max_length + 1)
        if not windows:
            raise DataError(
                f"{self.settings.shown_name} learns from users with two events or more, but these data have none."
            )
        return windows

    def _network(self, seen: np.ndarray) -> SequenceNetwork:
        """With its matrices. seen: bool (I,), the items of the events."""
        for name, (matrix, _) in self.features.items():
            if len(matrix) != len(seen):
                raise DataError(f"the features '{name}' have {len(matrix)} rows, but there are {len(seen)} items.")
        widths = {name: matrix.shape[1] for name, (matrix, _) in self.features.items()}
        network = make_network(self.settings, len(seen), widths)
        for name, (matrix, present) in self.features.items():
            network.inputs.frozen(name).fit(matrix, present, seen)
        network.meet(seen)
        return network


class Training:
    """A network and what it takes to train it on windows, for so many epochs at most."""

    def __init__(self, recommender: SequentialRecommender, windows: list[np.ndarray], epochs: float) -> None:
        settings, network = recommender.settings, recommender.network
        self.recommender, self.windows = recommender, windows
        self.objective = Objective(network, settings)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, betas=(0.9, 0.98), fused=True)
        self.an_epoch = steps_an_epoch(len(windows), settings.batch_size)
        between = settings.validate_every * self.an_epoch
        last = round(epochs * self.an_epoch)
        self.schedule = Schedule(
            settings.batch_size, epochs, settings.patience,
            validate_after=lambda step: step % between == 0 or step == last,
            average=settings.average, clip=settings.clip,
        )  # fmt: skip

    def loss_of(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Of some windows, int64 (B,): see `Objective`."""
        return self.objective(Packed.of([self.windows[row] for row in rows]))

    def run(
        self, validate: Callable[[], dict[str, float]] | None, folder: Path | None, report: Report | None
    ) -> list[dict[str, float]]:
        """Trains the network in place; what its validations found. See `fit`."""
        settings = self.recommender.settings
        return fit(
            self.recommender.network, self.loss_of, len(self.windows), self.optimizer, self.schedule,
            validate=validate, criterion=CRITERIA[settings.monitor], seed=settings.seed, name=settings.shown_name,
            folder=folder, report=report,
        )  # fmt: skip


class Objective:
    """-log p(item) over the positions that a network is asked at, among the items that it has seen."""

    def __init__(self, network: SequenceNetwork, settings: SequenceSettings) -> None:
        assert "auto" not in (settings.loss, settings.precision), "the settings are not settled"
        self.network, self.settings = network, settings
        for name in network.inputs.features:
            network.inputs.frozen(name).training_precision = settings.precision
        self.items = network.seen.nonzero().squeeze(1)  # int64 (S,)
        self.places = network.seen.cumsum(0) - 1  # of each seen item among them: int64 (I,)

    def __call__(self, windows: Packed) -> tuple[torch.Tensor, int]:
        """The sum over all positions of a batch that are asked, and how many they are."""
        packed, asked, targets = self.network.questions(windows)
        loss = self._full if self.settings.loss == "full" else self._sampled
        return loss(packed, asked, targets), len(targets)

    def _full(self, packed: Packed, asked: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        vectors = self.network.item_vectors()
        states = self.network(packed, vectors)[asked]
        if len(self.items) < len(vectors):
            vectors, targets = vectors[self.items], self.places[targets]
        return all_items_loss(states, vectors, targets, precision=self.settings.precision)

    def _sampled(self, packed: Packed, asked: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Only the items of the batch and of the sample get vectors, so that a step costs the same however many items there are."""
        negatives = self.items[torch.randint(len(self.items), (self.settings.num_negatives,))]
        items, numbers = torch.unique(torch.cat([packed.items, targets, negatives]), return_inverse=True)
        read, targets, negatives = numbers.split([len(packed.items), len(targets), len(negatives)])
        items = items[items < self.network.num_items]  # a mask, the last of all ids, keeps the number behind the items
        vectors = self.network.item_vectors(items)
        states = self.network(packed.with_items(read), vectors)[asked]
        return sampled_items_loss(states, vectors, targets, negatives, num_items=len(self.items))


def validation_of(valid: Instances) -> Validation:
    """-log p(target) among all items, and NDCG@10 where other items of the history are filtered; means over the instances."""
    requests, targets = Requests.from_instances(valid), valid.targets.astype(np.int64)

    @torch.inference_mode()
    def found(recommender: SequentialRecommender) -> dict[str, float]:
        loss, gains, at_once = 0.0, [], max(1, min(SCORED_AT_ONCE, SCORES_AT_ONCE // recommender.num_items))
        for rows in np.split(np.arange(len(valid)), range(at_once, len(valid), at_once)):
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

    return lambda recommender: lambda: found(recommender)


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
