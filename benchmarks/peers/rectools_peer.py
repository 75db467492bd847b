"""Models of the package RecTools: popularity, EASE, SASRec (with LiGR layers: eSASRec), BERT4Rec. See exchange.py."""

from __future__ import annotations

import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from exchange import Asked, Events, Peer, main
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, EASEModel, PopularModel, SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.sasrec import SASRecTransformerLayers

LAYERS = {"sasrec": SASRecTransformerLayers, "ligr": LiGRLayers}


def data_set(users: np.ndarray, items: np.ndarray) -> Dataset:
    """Events in their order: RecTools sorts by time, so an event's place is its time."""
    times = pd.to_datetime(np.arange(len(users)), unit="s")
    table = {Columns.User: users, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: times}
    return Dataset.construct(pd.DataFrame(table))


class Popularity(Peer):
    """Number of events (the package's `n_interactions`), all items' scores rather than its list."""

    def fit(self, events: Events) -> dict:
        """Count."""
        data = data_set(events.users, events.items)
        items, scores = PopularModel(popularity="n_interactions").fit(data).popularity_list
        self.counts = np.zeros(events.num_items, np.float32)
        self.counts[data.item_id_map.convert_to_external(items)] = scores
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I)."""
        return np.tile(self.counts, (len(asked.users[rows]), 1))


class EASE(Peer):
    """Histories times the package's weights, as its `recommend` does. recency: of the history's weights, ours, 1 for none."""

    def fit(self, events: Events) -> dict:
        """Invert; items without an event have no weights."""
        self.recency = self.settings.pop("recency")
        table = pd.DataFrame({"user": events.users, "item": events.items}).drop_duplicates()
        data = data_set(table["user"].to_numpy(), table["item"].to_numpy())
        self.weight = EASEModel(**self.settings).fit(data).weight.astype(np.float32, copy=False)
        self.known = data.item_id_map.external_ids.astype(np.int64)
        return {}

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """(R, I), 0 for items without an event."""
        scores = np.zeros((len(asked.users[rows]), asked.num_items), np.float32)
        scores[:, self.known] = asked.matrix(self.recency)[rows][:, self.known] @ self.weight
        return scores


class PaddingSkipped(TransformerLightningModule):
    """The package's training step without its work on padding: loss and gradients are equal (padding_check.py compares them).

    Columns that are padding in the whole batch are cut before the layers, and logits are made where there is a target alone.
    Equal to the package only with use_key_padding_mask: without it, the package lets histories attend to padding.
    """

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """batch: x, y int64 (B, T), yw float32 (B, T), negatives int64 (B, T, n)."""
        loss = self.cut_loss(batch)
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True, prog_bar=False)
        return loss

    def cut_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of one batch."""
        longest = int((batch["x"] != 0).sum(1).max())
        batch = {name: values[:, -longest:] for name, values in batch.items()}
        is_target = batch["y"] != 0  # (B, T)
        item_embs = self.torch_model.item_model.get_all_embeddings()
        states = self.torch_model.encode_sessions(batch, item_embs)[is_target].unsqueeze(0)  # (1, N, D)
        y, w = batch["y"][is_target].unsqueeze(0), batch["yw"][is_target].unsqueeze(0)  # (1, N)
        candidates = None
        if self._requires_negatives:
            candidates = torch.cat([y.unsqueeze(-1), batch["negatives"][is_target].unsqueeze(0)], dim=-1)
        logits = self.torch_model.similarity_module(states, item_embs, candidates) / self.logits_t
        return self.loss_calculator(logits, y, w)


class WithinBudget(pl.Callback):
    """Stops after the last epoch that ends within the budget; keeps the CPU seconds of each epoch."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s, self.seconds = budget_s, []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.start = time.process_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Say how it goes, and stop where another epoch would be too much."""
        self.seconds.append(time.process_time() - self.start)
        loss = float(trainer.callback_metrics["train_loss"])
        print(f"  epoch {len(self.seconds)}: loss {loss:.4f}, {self.seconds[-1]:.0f} CPU s", file=sys.stderr)
        if sum(self.seconds) + max(self.seconds) > self.budget_s:
            trainer.should_stop = True


class Transformer(Peer):
    """Lists by the package's own `recommend`."""

    kind: type = SASRecModel

    def fit(self, events: Events) -> dict:
        """Epochs as the settings say, fewer where the budget ends before."""
        pl.seed_everything(self.seed)
        epochs, budget = self.settings.pop("epochs"), WithinBudget(self.budget_s)
        if "layers" in self.settings:
            self.settings["transformer_layers_type"] = LAYERS[self.settings.pop("layers")]
        if self.settings.pop("padding_skipped", False):
            self.settings["lightning_module_type"] = PaddingSkipped
        self.model = self.kind(**self.settings)
        self.model._trainer = trainer_of(epochs, budget)  # as its documentation says; `fit` trains by a copy of it
        self.model.fit(data_set(events.users, events.items))
        (done,) = [c.seconds for c in self.model.fit_trainer.callbacks if isinstance(c, WithinBudget)]
        return {"epochs": len(done), "cpu_seconds_of_epochs": done, "ended_by_budget": len(done) < epochs}

    def lists(self, asked: Asked, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(U, k) each; empty for a request whose history holds no trained item."""
        data = data_set(asked.rows, asked.items)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self.model.recommend(
                np.arange(len(asked)), data, k=k, filter_viewed=True, on_unsupported_targets="ignore"
            )
        items = np.full((len(asked), k), -1, np.int32)
        scores = np.full((len(asked), k), -np.inf, np.float32)
        places = found[Columns.User].to_numpy(np.int64), found[Columns.Rank].to_numpy(np.int64) - 1
        items[places], scores[places] = found[Columns.Item].to_numpy(), found[Columns.Score].to_numpy()
        return items, scores


def trainer_of(epochs: int, budget: WithinBudget) -> pl.Trainer:
    """A quiet trainer on the CPU."""
    return pl.Trainer(
        max_epochs=epochs, min_epochs=1, callbacks=[budget], deterministic=True, accelerator="cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


class Bert4Rec(Transformer):
    """Masked items."""

    kind = BERT4RecModel


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    models = {"popularity": Popularity, "ease": EASE, "sasrec": Transformer, "bert4rec": Bert4Rec}
    main(models, ("RecTools", "torch", "pytorch-lightning", "numpy"))
