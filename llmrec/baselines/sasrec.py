"""SASRec as a recommender: trained on the events it is given, with a stop of its own (MovieLens-100K: 100 s on one thread).

With the default settings validation R@10 there is .226, N@10 .120 (leave-one-out, seed 0; low-rank EASE-R embeddings .214, .119).

Letters: U requests, I items, T positions, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from llmrec.baselines.baseline import Baseline
from llmrec.config import Settings
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, DataError
from llmrec.fit import Criterion, Schedule, fit, steps_an_epoch
from llmrec.nn.item_inputs import ItemInputs, ItemMatrices
from llmrec.nn.sequence import SasRec
from llmrec.recommenders.requests import Requests

SCORED_AT_ONCE = 512  # requests


class SasRecSettings(Settings):
    """The network and its training."""

    dim: int = Field(64, ge=1)
    max_length: int = Field(50, ge=2)  # items, the latest
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(1, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    lr: float = Field(3e-3, gt=0)
    batch_size: int = Field(64, ge=1)  # windows of max_length items
    epochs: int = Field(30, ge=1)
    patience: int = Field(4, ge=1)  # validations (every second epoch) without a better one
    use_ids: bool = True
    seed: int = Field(0, ge=0, lt=2**32)


class SasRecRecommender(Baseline):
    """Scores are inner products of the last state with every item's vector.

    Trained to tell the next item among all items at every position (softmax, where the paper samples one negative: on small catalogues
    it is exact and ranks better). Training stops on the last event of each user with three events or more, which only `fit`'s own
    events hold and which is then not trained on; longer histories are cut into windows, so that every event is a target once.
    """

    name = "sasrec"
    Settings = SasRecSettings

    def __init__(self, *, item_inputs: ItemMatrices | None = None, **settings: object) -> None:
        """item_inputs: frozen matrices by name, float32 (I, D_f) and presence bool (I,), with or instead of trained embeddings."""
        super().__init__(**settings)
        if not self.settings.use_ids and not item_inputs:
            raise ConfigError("SASRec without ids (use_ids=false) needs at least one matrix of item features.")
        if self.settings.dim % self.settings.num_heads:
            raise ConfigError(
                f"SASRec's dim ({self.settings.dim}) should be a multiple of num_heads ({self.settings.num_heads})."
            )
        self.item_inputs = item_inputs or {}

    @classmethod
    def from_settings(cls, settings: SasRecSettings, *, item_inputs: ItemMatrices | None = None) -> Self:
        """See `Baseline.from_settings`; item_inputs as for the constructor."""
        return cls(item_inputs=item_inputs, **dict(settings))

    @property
    def card(self) -> dict:
        """Settings and features."""
        return {**super().card, "features": list(self.item_inputs)}

    def fit(self, interactions: Interactions, *, folder: Path | None = None) -> Self:
        """Train; the best state by validation loss is kept. torch's global random state is left as it was.

        folder: where the training is kept meanwhile, so that a killed one goes on; None: nowhere.
        Raises DataError where no user has two events, or a matrix has other rows than the items.
        """
        self.num_items = interactions.num_items
        for name, (matrix, _) in self.item_inputs.items():
            if len(matrix) != self.num_items:
                raise DataError(f"the features '{name}' have {len(matrix)} rows, but there are {self.num_items} items.")
        lengths = interactions.lengths
        held_out = lengths >= 3
        train = interactions.first(lengths - held_out)
        items, mask = _windows(train.histories, self.settings.max_length + 1)
        if not len(items):
            raise DataError("SASRec learns from users with two events or more, but these data have none.")
        monitored = _latest(interactions.histories, np.flatnonzero(held_out), self.settings.max_length + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.network = self._make_network(known=interactions.counts() > 0)
        self._train(items, mask, *(monitored if held_out.any() else (items, mask)), folder=folder)
        return self

    def _make_network(self, known: np.ndarray) -> SasRec:
        """known: bool (I,), items with an event; the others read the row of unknown items."""
        settings = self.settings
        widths = {name: matrix.shape[1] for name, (matrix, _) in self.item_inputs.items()}
        inputs = ItemInputs(self.num_items, settings.dim, widths, use_ids=settings.use_ids, std=settings.dim**-0.5)
        for name, (matrix, present) in self.item_inputs.items():
            inputs.frozen(name).fit(matrix, present)
        if settings.use_ids:
            inputs.fields[0].known.copy_(torch.from_numpy(known))
        return SasRec(
            inputs,
            max_length=settings.max_length,
            num_layers=settings.num_layers,
            num_heads=settings.num_heads,
            dropout=settings.dropout,
        )

    def _train(
        self,
        items: torch.Tensor,
        mask: torch.Tensor,
        monitored: torch.Tensor,
        monitored_mask: torch.Tensor,
        *,
        folder: Path | None,
    ) -> None:
        """items int64 (windows, T + 1), mask bool alike; monitored: sequences whose last item is what validation asks for."""
        settings = self.settings
        an_epoch = steps_an_epoch(len(items), settings.batch_size)
        fit(
            self.network,
            lambda rows: self._loss(items[rows], mask[rows]),
            len(items),
            torch.optim.Adam(self.network.parameters(), lr=settings.lr, betas=(0.9, 0.98), fused=True),
            Schedule(
                settings.batch_size,
                settings.epochs,
                settings.patience,
                validate_after=lambda step: step % (2 * an_epoch) == an_epoch,  # the 1st, 3rd, 5th ... epoch
            ),
            validate=lambda: {"loss": self._last_loss(monitored, monitored_mask)},
            criterion=Criterion("loss", greater_is_better=False),
            seed=settings.seed,
            name="SASRec",
            folder=folder,
        )

    def _loss(self, items: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, int]:
        """-log p(next item), summed over all positions that have one, and how many have: items int64 (B, T + 1), bool alike -> ()."""
        states = self.network(items[:, :-1], mask[:, :-1])
        asked = mask[:, :-1] & mask[:, 1:]
        targets = items[:, 1:][asked]
        return F.cross_entropy(self.network.logits(states[asked]), targets, reduction="sum"), len(targets)

    @torch.inference_mode()
    def _last_loss(self, items: torch.Tensor, mask: torch.Tensor) -> float:
        """-log p(last item), the mean over the sequences."""
        total = 0.0
        for rows in torch.arange(len(items)).split(SCORED_AT_ONCE):
            states = self.network(items[rows, :-1], mask[rows, :-1])[:, -1]
            total += F.cross_entropy(self.network.logits(states), items[rows, -1], reduction="sum").item()
        return total / len(items)

    @torch.inference_mode()
    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I); an empty history scores 0 everywhere."""
        items, mask = _latest(requests.histories, np.arange(len(requests)), self.settings.max_length)
        scores = np.zeros((len(requests), self.num_items), np.float32)
        for rows in torch.from_numpy(np.flatnonzero(requests.histories.lengths)).split(SCORED_AT_ONCE):
            states = self.network(items[rows], mask[rows])[:, -1]
            scores[rows.numpy()] = self.network.logits(states).numpy()
        return scores

    @torch.inference_mode()
    def item_embeddings(self) -> np.ndarray:
        """float32 (I, dim)."""
        return self.network.item_vectors(torch.arange(self.num_items)).numpy()


def _windows(histories: Histories, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every history cut from its end into pieces that overlap by one item: int64 (windows, width) padded in front, bool alike."""
    pieces = [
        row[max(0, end - width) : end]
        for row in (histories[user] for user in range(len(histories)))
        for end in range(len(row), 1, 1 - width)
    ]
    return _padded(pieces, width)


def _latest(histories: Histories, rows: np.ndarray, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The latest `width` items of the rows, padded in front."""
    return _padded([histories[row][-width:] for row in rows], width)


def _padded(pieces: list[np.ndarray], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    items = np.zeros((len(pieces), width), np.int64)
    mask = np.zeros((len(pieces), width), bool)
    for row, piece in enumerate(pieces):
        if len(piece):
            items[row, -len(piece) :], mask[row, -len(piece) :] = piece, True
    return torch.from_numpy(items), torch.from_numpy(mask)
