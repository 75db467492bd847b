"""Attention whose groups of query heads share their keys and values where they lie, none of them copied.

transformers repeats keys and values for every query head as soon as there is a mask, which for a few tokens after a long
prompt costs more than the attention itself.

Letters: B requests, A query heads, G key-value heads, N queries, S positions, C channels of a head.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

GROUPED = "llmrec_grouped"  # what a model's configuration calls this attention


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float | None
) -> Tensor:
    """query (B, A, N, C), key and value (B, G, S, C) -> (B, N, A, C).

    mask: bool or additive, (B or 1, 1, N, S); None where the queries are all there is, N = S, and each sees those before it and itself.
    """
    is_grouped = query.shape[1] != key.shape[1]
    if mask is None or query.device.type == "cpu":  # its kernel takes groups together with a mask
        is_causal = mask is None and query.shape[2] > 1
        out = F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scaling, enable_gqa=is_grouped
        )
        return out.transpose(1, 2).contiguous()
    return _heads_as_queries(query, key, value, mask, scaling)


def _heads_as_queries(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """For kernels that take no groups with a mask: the heads of a group are just more queries of one head. See above."""
    num_requests, _, num_queries, channels = query.shape
    groups = query.shape[1] // key.shape[1]
    rows = query.reshape(num_requests, key.shape[1], groups * num_queries, channels)
    out = F.scaled_dot_product_attention(rows, key, value, mask.repeat(1, 1, groups, 1), scale=scaling)
    return out.reshape(query.shape).transpose(1, 2).contiguous()  # some kernels return another layout
