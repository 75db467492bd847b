"""Attention of tree nodes, as transformers' models come by it.

While nodes are read, the model's configuration names the function below as its attention, as transformers' AttentionInterface
intends; the model itself is not changed. llmrec's own decoder (`backbones.decoder`) attends so always.

Letters: B requests, A query heads, G key-value heads, N nodes, S positions, C channels of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from llmrec.backbones.grouped_attention import GROUPED, grouped_attention
from llmrec.errors import ModelError


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
    return grouped_attention(query, key, value, attention_mask, scaling=scaling), None


@contextmanager
def reading_nodes(config: Any) -> Iterator[None]:
    """While open, a transformers model that attends by sdpa attends by `tree_attention`; any other stays as it is.

    The configuration is the model's, so one thread at a time may use the model (`Recommender` sees to it).
    """
    if config._attn_implementation != "sdpa":
        yield
        return
    _register()
    config._attn_implementation = GROUPED
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface  # here: a model that needs it has imported it long since

    AttentionInterface.register(GROUPED, tree_attention)
