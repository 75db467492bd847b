"""Trains CTR models: seconds on one thread, the same weights for the same seed. Grids of them: `ctr_grid`.

Letters: B examples of a batch, N examples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from llmrec import metrics
from llmrec.ctr.model import CtrModel, CtrSettings
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.errors import DataError
from llmrec.nn.item_inputs import ItemMatrices


def train_ctr_model(
    split: ClickSplit,
    num_items: int,
    item_inputs: ItemMatrices,
    *,
    use_ids: bool,
    settings: CtrSettings,
    seed: int,
    report: Callable[[dict], None] | None = None,
) -> tuple[CtrModel, list[dict]]:
    """The model of the best validation, and what every validation found: step, train_loss, auc, gauc, logloss.

    Binary cross-entropy, AdamW, examples in a random order by `seed`, anew in every epoch; the test examples are not looked at. torch's
    global random state is left as it was. report: called with each validation's line.

    Raises:
        DataError: matrices that do not fit, no input at all, or no user to monitor the GAUC of.
        ModelError: training diverged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CtrModel.make(num_items, item_inputs, use_ids, settings)
        _mark_known_items(model, split.train)
        return model, _fit(model, split, settings, report)


def _mark_known_items(model: CtrModel, train: ClickExamples) -> None:
    """Items without a training example read the embedding of unknown items."""
    if model.inputs.use_ids:
        known = torch.zeros(model.inputs.num_items, dtype=torch.bool)
        known[torch.from_numpy(train.items.astype(np.int64))] = True
        model.inputs.fields[0].known.copy_(known)


def _fit(
    model: CtrModel, split: ClickSplit, settings: CtrSettings, report: Callable[[dict], None] | None
) -> list[dict]:
    if settings.monitor == "gauc" and not len(
        metrics.user_auc(split.valid.labels, split.valid.items, split.valid.users).users
    ):
        raise DataError(
            "no user has validation examples of both classes, so there is no GAUC to monitor; set monitor=auc."
        )
    items, histories, context = model.tensors(split.train)
    labels = torch.from_numpy(split.train.labels.astype(np.float32))
    optimizer = _optimizer(model, settings)
    steps_an_epoch = -(-len(items) // settings.batch_size)
    every = max(1, steps_an_epoch // settings.evaluations)
    lines: list[dict] = []
    best, best_state, without_better, losses, step = -np.inf, None, 0, [], 0
    for _ in range(settings.epochs):
        model.train()
        for rows in torch.randperm(len(items)).split(settings.batch_size):
            loss = F.binary_cross_entropy_with_logits(model(items[rows], histories[rows], context[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
            if step % every:
                continue
            line = {
                "step": step,
                "train_loss": float(np.mean(losses)),
                **metrics.ctr_metrics(split.valid.labels, model.score(split.valid), split.valid.users),
            }
            losses = []
            lines.append(line)
            if report is not None:
                report(line)
            if line[settings.monitor] > best:
                best, best_state, without_better = line[settings.monitor], copy.deepcopy(model.state_dict()), 0
            else:
                without_better += 1
            if without_better == settings.patience:
                break
        if without_better == settings.patience:
            break
    model.load_state_dict(best_state)
    model.eval()
    return lines


def _optimizer(model: CtrModel, settings: CtrSettings) -> torch.optim.Optimizer:
    rows = list(model.inputs.fields[0].parameters()) if model.inputs.use_ids else []
    of_rows = {id(parameter) for parameter in rows}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_rows]
    groups = [{"params": others, "weight_decay": settings.weight_decay}]
    if rows:
        groups.append({"params": rows, "weight_decay": settings.embedding_decay})
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
