"""Loss and gradients of RecTools' own training step and of `PaddingSkipped`, on random histories: the largest differences as JSON.

.venv-peers/bin/python benchmarks/peers/padding_check.py
"""

from __future__ import annotations

import json

import numpy as np
import torch
from rectools.models import SASRecModel
from rectools_peer import LAYERS, PaddingSkipped, data_set


def differences(layers: str, loss: str) -> dict[str, float]:
    """Relative, of the loss and of the gradient of every parameter (largest entry over the largest of that parameter)."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 15, 40)
    users, items = np.repeat(np.arange(40), lengths), rng.integers(0, 60, lengths.sum())
    torch.manual_seed(0)
    model = SASRecModel(
        n_factors=16, n_blocks=2, n_heads=2, session_max_len=20, use_key_padding_mask=True, dropout_rate=0.0, loss=loss, n_negatives=7,
        batch_size=40, transformer_layers_type=LAYERS[layers], lightning_module_type=PaddingSkipped,
    )  # fmt: skip
    model._build_model_from_dataset(data_set(users, items))
    module = model.lightning_model
    module._xavier_normal_init()
    (batch,) = model.data_preparator.get_dataloader_train()
    losses, gradients = [], []
    for step in (
        lambda: module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"]),
        lambda: module.cut_loss(batch),
    ):
        module.zero_grad()
        losses.append(step())
        losses[-1].backward()
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()])
    of_gradients = [float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in zip(*gradients, strict=True)]
    return {"loss": abs(float(losses[0] - losses[1]) / float(losses[0])), "gradient": max(of_gradients)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    pairs = [("sasrec", "softmax"), ("sasrec", "sampled_softmax"), ("ligr", "softmax"), ("ligr", "sampled_softmax")]
    print(json.dumps({" ".join(pair): differences(*pair) for pair in pairs}))
