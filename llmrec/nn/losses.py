"""Objectives as functions of tensors: no model and no config inside."""

from __future__ import annotations

import torch
from torch.nn import functional as F


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


def allowed_token_loss(
    logits: torch.Tensor, is_allowed: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Summed cross-entropy where each row has candidates of its own: the softmax runs over the allowed columns only.

    Equals `token_loss` when every column is allowed. With `label_smoothing` e the target distribution is (1 - e) one-hot + e uniform
    over the row's allowed columns.

    Inputs and labels:
        | what | shape | dtype |
        |---|---|---|
        | logits: unnormalised scores of the columns | (N, M) | float32 |
        | is_allowed: at least the target's column of each row | (N, M) | bool |
        | targets: the right column | (N,), each in [0, M) | int64 |

    Returns: float32 (), zero for N = 0.
    """
    log_probs = logits.float().masked_fill(~is_allowed, float("-inf")).log_softmax(dim=1)  # (N, M)
    loss = -log_probs.gather(1, targets[:, None]).sum()
    if label_smoothing:
        uniform = log_probs.masked_fill(~is_allowed, 0.0).sum(1) / is_allowed.sum(1)  # (N,)
        loss = (1 - label_smoothing) * loss - label_smoothing * uniform.sum()
    return loss


def info_nce(queries: torch.Tensor, keys: torch.Tensor, *, temperature: float = 0.1) -> torch.Tensor:
    """Mean over both directions of -log softmax(cos(query_b, key_j) / temperature)[b]: the right partner among those of the batch.

    InfoNCE (van den Oord et al. 2018) in the symmetric form of CLIP (Radford et al. 2021); with item vectors of content and of ids it
    is the content-id contrast of EM3 (Deng et al. 2024). Equals log B where all vectors are alike.

    Inputs:
        | what | shape | dtype |
        |---|---|---|
        | queries: one vector per row | (B, D) | float32 |
        | keys: the partner of each | (B, D) | float32 |

    Returns: float32 ().
    """
    cosines = F.normalize(queries.float(), dim=1) @ F.normalize(keys.float(), dim=1).T / temperature  # (B, B)
    partner = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(cosines, partner) + F.cross_entropy(cosines.T, partner)) / 2
