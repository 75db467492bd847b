"""Trains CTR models: seconds on one thread, the same weights for the same seed. Grids of them: `ctr.grid`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from llmrec import metrics
from llmrec.ctr.model import CtrModel, CtrSettings
from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit, joined
from llmrec.errors import DataError
from llmrec.fit import Criterion, Schedule, best_step, fit, steps_an_epoch
from llmrec.nn.item_inputs import ItemMatrices, ItemPieces


def train_ctr_model(
    split: ClickSplit,
    num_items: int,
    item_inputs: ItemMatrices,
    *,
    use_ids: bool,
    pieces: ItemPieces | None = None,
    settings: CtrSettings,
    seed: int,
    refit: bool = False,
    folder: Path | None = None,
) -> tuple[CtrModel, list[dict[str, float]]]:
    """The model of the best validation, and what every validation found: step, train_loss, auc, gauc (where there is one), logloss.

    Binary cross-entropy, AdamW; the test examples are not looked at. torch's global random state is left as it was. refit: train anew,
    from the same seed and for as many epochs as validation chose, on training and validation examples. folder: where the training is
    kept meanwhile, so that a killed one goes on (a refit in a folder beside it); None: nowhere.

    Raises:
        DataError: matrices that do not fit, no input at all, or no user to monitor the GAUC of.
        ModelError: training diverged.
    """
    _check_monitored(split.valid, settings.monitor)

    def made() -> CtrModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CtrModel.make(num_items, item_inputs, use_ids, settings, pieces)

    model, criterion = made(), Criterion(settings.monitor, greater_is_better=True)
    lines = _train(model, split.train, split.valid, settings.epochs, criterion, seed, folder)
    chosen = best_step(lines, criterion) / steps_an_epoch(len(split.train), settings.batch_size)
    if refit:
        model, beside = made(), folder and folder.with_name(f"{folder.name}-refit")
        _train(model, joined([split.train, split.valid]), None, chosen, criterion, seed, beside)
    model.card = {
        "inputs": model.inputs.names,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "fit": "train+valid" if refit else "train",
        "epochs_chosen": chosen,
    }
    return model, lines


def _train(
    model: CtrModel,
    train: ClickExamples,
    valid: ClickExamples | None,
    epochs: float,
    criterion: Criterion,
    seed: int,
    folder: Path | None,
) -> list[dict[str, float]]:
    """Trains `model` in place. valid: None trains for just so many epochs."""
    settings = model.settings
    _mark_known_items(model, train)
    items, histories, context = model.tensors(train)
    labels = torch.from_numpy(train.labels.astype(np.float32))

    def loss_of(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        logits = model(items[rows], histories[rows], context[rows])
        return F.binary_cross_entropy_with_logits(logits, labels[rows], reduction="sum"), len(rows)

    def validate() -> dict[str, float]:
        assert valid is not None
        found = metrics.ctr_metrics(valid.labels, model.score_rows(valid), valid.users)
        # where no user has both answers there is no GAUC, and what does not exist is not kept on disk
        return {name: value for name, value in found.items() if name == settings.monitor or not np.isnan(value)}

    every = max(1, steps_an_epoch(len(items), settings.batch_size) // settings.evaluations)
    return fit(
        model,
        loss_of,
        len(items),
        _optimizer(model, settings),
        Schedule(settings.batch_size, epochs, settings.patience, validate_after=lambda step: step % every == 0),
        validate=None if valid is None else validate,
        criterion=criterion,
        seed=seed,
        name=f"the CTR model {settings.model}",
        folder=folder,
    )


def _mark_known_items(model: CtrModel, train: ClickExamples) -> None:
    """Items without a training example read the embedding of unknown items; word pieces that no example shows are not read at all."""
    asked, shown = (torch.zeros(model.inputs.num_items, dtype=torch.bool) for _ in range(2))
    asked[torch.from_numpy(train.items.astype(np.int64))] = True
    if model.inputs.use_ids:
        model.inputs.fields[0].known.copy_(asked)
    if model.inputs.pieces is not None:
        shown[torch.from_numpy(train.histories[train.histories != PADDING].astype(np.int64))] = True
        model.inputs.pieces.forget_unless(asked | shown)


def _check_monitored(valid: ClickExamples, monitor: str) -> None:
    if monitor == "gauc" and not len(metrics.user_auc(valid.labels, valid.items, valid.users).users):
        raise DataError(
            "no user has validation examples of both classes, so there is no GAUC to monitor; set monitor=auc."
        )


def _optimizer(model: CtrModel, settings: CtrSettings) -> torch.optim.Optimizer:
    embedded = [model.inputs.fields[0]] if model.inputs.use_ids else []
    embedded += [model.inputs.pieces] if model.inputs.pieces is not None else []
    rows = [parameter for field in embedded for parameter in field.parameters()]
    of_rows = {id(parameter) for parameter in rows}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_rows]
    groups = [{"params": others, "weight_decay": settings.weight_decay}]
    if rows:
        groups.append({"params": rows, "weight_decay": settings.embedding_decay})
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
