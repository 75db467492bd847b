"""Attention of tree nodes: grouped heads share their keys and values where they lie, none of them copied.

transformers repeats keys and values for every query head as soon as there is a mask, which for a few nodes after a long
prompt costs more than the attention itself. While nodes are read, the model's configuration names the function below
instead, as transformers' AttentionInterface intends; the model itself is not changed.

Letters: B requests, A query heads, G key-value heads, N nodes, S positions, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from llmrec.errors import ModelError

TREE = "llmrec_tree"


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature. query (B, A, N, C), key and value (B, G, S, C), attention_mask additive
    (B, 1, N, S) -> (B, N, A, C). Like transformers' own sdpa it knows no soft cap of the scores.
    """
    if attention_mask is None:
        raise ModelError("nodes are read under a mask, and there is none: two threads used one model at once.")
    if query.device.type == "cpu":  # its kernel takes groups together with a mask
        is_grouped = query.shape[1] != key.shape[1]
        out = F.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling, enable_gqa=is_grouped)
        return out.transpose(1, 2).contiguous(), None
    return _heads_as_queries(query, key, value, attention_mask, scaling), None


def _heads_as_queries(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float | None
) -> Tensor:
    """For kernels that take no groups with a mask: the heads of a group are just more queries of one head. See above."""
    num_requests, _, num_nodes, channels = query.shape
    groups = query.shape[1] // key.shape[1]
    rows = query.reshape(num_requests, key.shape[1], groups * num_nodes, channels)
    out = F.scaled_dot_product_attention(rows, key, value, attention_mask.repeat(1, 1, groups, 1), scale=scaling)
    return out.reshape(query.shape).transpose(1, 2).contiguous()  # some kernels return another layout


@contextmanager
def reading_nodes(config: Any) -> Iterator[None]:
    """While open, a model that attends by sdpa attends by `tree_attention`; one that was asked for eager attention stays so.

    The configuration is the model's, so one thread at a time may use the model (`Recommender` sees to it).
    """
    before = config._attn_implementation
    if before == "sdpa":
        config._attn_implementation = TREE
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(TREE, tree_attention)
