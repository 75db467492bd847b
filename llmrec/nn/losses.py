"""Objectives as functions of tensors: no model and no config inside."""

from __future__ import annotations

import torch
from torch.nn import functional as F

IGNORE = -100


def token_loss(logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """Summed cross-entropy: -sum_n log softmax(logits_n)[targets_n].

    The sum, not the mean, so that a batch cut into micro-batches or spread over processes adds up exactly; the caller divides by the
    number of targets in the whole batch. With `label_smoothing` e the target distribution is (1 - e) one-hot + e uniform
    (Szegedy et al. 2016, eq. 4).

    Inputs and labels:
        | what | shape | dtype |
        |---|---|---|
        | logits: unnormalised scores of the candidates | (N, M) | float32 |
        | targets: the right column | (N,), each in [0, M) | int64 |

    Returns: float32 (), zero for N = 0.
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=label_smoothing)
