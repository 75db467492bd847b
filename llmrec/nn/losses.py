"""Objectives as functions of tensors: no model and no config inside."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from llmrec.nn.precision import Precision, products


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


_LOGITS_AT_ONCE = (
    1_500_000  # 6 MB: what a core's cache holds most of; three times as fast as all rows in memory at once
)


class _AllItemsSoftmax(torch.autograd.Function):
    """`all_items_loss`: gradients are made with the loss, so that no logit is kept or computed again."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        states: torch.Tensor,
        vectors: torch.Tensor,
        targets: torch.Tensor,
        precision: Precision,
    ) -> torch.Tensor:
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = states.new_zeros(())
        of_states, of_vectors = torch.zeros_like(states), torch.zeros_like(vectors)
        at_once = max(16, _LOGITS_AT_ONCE // len(vectors))
        memory, minus_one = states.new_empty(at_once, len(vectors)), states.new_full((at_once, 1), -1.0)
        with products(precision):
            for start in range(0, len(states), at_once):
                rows = slice(start, start + at_once)
                some, asked = states[rows], targets[rows, None]
                logits = torch.mm(some, vectors.T, out=memory[: len(some)])  # (rows, I)
                log_probs = torch.log_softmax(logits, 1, out=logits)
                total -= log_probs.gather(1, asked).sum()
                if needs_gradient:
                    gradients = log_probs.exp_().scatter_add_(
                        1, asked, minus_one[: len(some)]
                    )  # probabilities - one-hot
                    of_states[rows] = gradients @ vectors
                    of_vectors.addmm_(gradients.T, some)
        ctx.save_for_backward(of_states, of_vectors)
        return total

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        of_states, of_vectors = ctx.saved_tensors
        return gradient * of_states, gradient * of_vectors, None, None


def all_items_loss(
    states: torch.Tensor, vectors: torch.Tensor, targets: torch.Tensor, *, precision: Precision = "float32"
) -> torch.Tensor:
    """Summed cross-entropy over the whole catalogue: -sum_n log softmax(states_n vectors')[targets_n].

    Equals `token_loss(states @ vectors.T, targets)`, gradients too, in a third of its time on a CPU: a few rows at a time stay in the
    cache, and nothing of size (N, I) is ever stored. precision: of the factors of its three products; the softmax is float32 in any
    case.

    Inputs and labels:
        | what | shape | dtype |
        |---|---|---|
        | states: one per question | (N, D) | float32 |
        | vectors: one per item | (I, D) | float32 |
        | targets: the right item | (N,), each in [0, I) | int64 |

    Returns: float32 (), zero for N = 0.
    """
    return _AllItemsSoftmax.apply(states, vectors, targets, precision)


def sampled_items_loss(
    states: torch.Tensor,
    vectors: torch.Tensor,
    targets: torch.Tensor,
    negatives: torch.Tensor,
    *,
    num_items: int | None = None,
) -> torch.Tensor:
    """Summed cross-entropy of the target against negatives that were drawn uniformly, with replacement, from I items.

    num_items: I; None: as many as there are vectors, which may also be those of the targets and the negatives alone.
    A negative stands for I / K items, so log(I / K) is added to its logit ("logQ correction": Bengio and Senecal 2008; Yi et al.,
    RecSys 2019): the sum over negatives then estimates that over all other items without bias, and the loss comes to `all_items_loss`
    as K grows. A negative that is the target is left out of that row.

    Inputs and labels:
        | what | shape | dtype |
        |---|---|---|
        | states: one per question | (N, D) | float32 |
        | vectors: one per item | (M, D) | float32 |
        | targets: the right item | (N,), each in [0, M) | int64 |
        | negatives: the same for all questions | (K,), each in [0, M) | int64 |

    Returns: float32 (), zero for N = 0.
    """
    own = (states * F.embedding(targets, vectors)).sum(1, keepdim=True)  # (N, 1)
    others = states @ F.embedding(negatives, vectors).T + math.log(
        (num_items or len(vectors)) / len(negatives)
    )  # (N, K)
    others = others.masked_fill(targets[:, None] == negatives, float("-inf"))
    logits = torch.cat([own, others], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets), reduction="sum")
