"""Prompts read once, then grown by trees of tokens: one cache that is only appended to, one mask that says who sees whom.

A tree node is an extra position behind the prompt. It sees the whole prompt, its ancestors and itself, and its position
number is the prompt's length plus its depth, so the model computes for it what it would compute for the plain sequence
prompt + ancestors + node. Beams that share a beginning share its nodes; choosing other beams changes only the next mask.

Prompts of unequal length are padded on the right: a causal model never looks there while reading the prompt, and the mask
hides the padding from the nodes. Reading therefore needs no mask at all.

Exact for layers of full attention and of sliding windows. Sliding layers get their own mask, in true positions, over an
uncropped cache (transformers' default one forgets what is out of the window, which here would forget the wrong tokens).

Letters: B requests, T tokens of the longest prompt, N new nodes, S nodes so far, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from llmrec.backbones.causal_lm import Backbone
from llmrec.engines.tree_attention import reading_nodes
from llmrec.errors import ModelError, RequestError

_FULL, _SLIDING = "full_attention", "sliding_attention"


class PromptTree:
    """B prompts in the model's cache, and the nodes grown on them.

    last_hidden: (B, D), the hidden state of each prompt's last token: it predicts the first token of the answer.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[np.ndarray], answer_length: int) -> None:
        """Reads the prompts. prompts: B arrays of token ids, each int (>= 1,); answer_length: tokens an answer has at most.

        Raises ModelError for a model whose layers cannot be grown this way, RequestError for a prompt that is empty or
        too long for the model together with the answer.
        """
        self._window_of = _windows(backbone)
        lengths = [len(prompt) for prompt in prompts]
        _check_lengths(lengths, answer_length, getattr(_text_config(backbone), "max_position_embeddings", None))
        self._backbone = backbone
        self._lengths = torch.tensor(lengths, device=backbone.device)  # (B,)
        self._prompt_positions = torch.arange(max(lengths), device=backbone.device)  # (T,)
        self._depths = torch.zeros(len(prompts), 0, dtype=torch.int64, device=backbone.device)  # (B, S)
        self._cache = DynamicCache()  # without the model's config it crops no layer

        padded = np.zeros((len(prompts), max(lengths)), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = prompt
        hidden = backbone.hidden_states(
            torch.from_numpy(padded).to(backbone.device),
            position_ids=self._prompt_positions.expand(padded.shape),
            past_key_values=self._cache,
        )  # (B, T, D)
        self.last_hidden = hidden[torch.arange(len(prompts), device=hidden.device), self._lengths - 1]

    def grow(self, tokens: Tensor, depths: Tensor, ancestors: Tensor) -> Tensor:
        """Appends nodes to every prompt and returns their hidden states (B, N, D).

        tokens: int64 (B, N). depths: int64 (B, N), 0 for the first token after the prompt. ancestors: bool (B, N, S + N),
        which nodes, old ones first, each new node sees; every new node sees itself and none behind itself.
        """
        self._depths = torch.cat([self._depths, depths], dim=1)
        masks = {kind: self._mask(ancestors, depths, window) for kind, window in self._window_of.items()}
        with reading_nodes(_text_config(self._backbone)):
            return self._backbone.hidden_states(
                tokens,
                attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
                position_ids=self._lengths[:, None] + depths,
                past_key_values=self._cache,
            )

    def prune(self) -> None:
        """Drops every node; the prompts stay."""
        self._cache.crop(-self._depths.shape[1])
        self._depths = self._depths[:, :0]

    def _mask(self, ancestors: Tensor, depths: Tensor, window: int | None) -> Tensor:
        """Who sees whom, additive, (B, 1, N, T + S + N) in the model's dtype."""
        is_prompt = self._prompt_positions < self._lengths[:, None]  # (B, T)
        visible = torch.cat([is_prompt[:, None].expand(-1, ancestors.shape[1], -1), ancestors], dim=-1)
        if window is not None:
            positions = self._lengths[:, None] + depths  # (B, N)
            node_positions = self._lengths[:, None] + self._depths  # (B, S + N)
            seen = torch.cat([self._prompt_positions.expand_as(is_prompt), node_positions], dim=-1)  # (B, T + S + N)
            visible = visible & (positions[..., None] - seen[:, None] < window)
        lowest = torch.finfo(self._backbone.dtype).min
        mask = torch.zeros(visible.shape, dtype=self._backbone.dtype, device=visible.device)
        return mask.masked_fill_(~visible, lowest)[:, None]


def _windows(backbone: Backbone) -> dict[str, int | None]:
    """The kinds of attention layers and the window of each (None: sees everything), or a ModelError in one sentence."""
    config = _text_config(backbone)
    kind = _SLIDING if getattr(config, "sliding_window", None) else _FULL
    kinds = set(getattr(config, "layer_types", None) or [kind])
    name = type(backbone.causal_lm).__name__
    if backbone.causal_lm._is_stateful or not kinds <= {_FULL, _SLIDING}:
        raise ModelError(
            f"{name} has recurrent or otherwise special layers ({', '.join(sorted(kinds))}), and beams can share a prompt "
            "only through full or sliding-window attention; choose a backbone of such layers."
        )
    takes_positions = "position_ids" in inspect.signature(backbone.body.forward).parameters
    if not takes_positions or getattr(config, "alibi", False) or config.model_type == "gpt_neo":
        raise ModelError(
            f"{name} counts positions by place in the cache, where the beams of a request stand side by side; "
            "choose a backbone that takes position_ids in every layer."
        )
    if config._attn_implementation not in ("sdpa", "eager"):
        raise ModelError(
            f"the beam search needs attention that takes a mask, 'sdpa' or 'eager', but {name} was loaded with "
            f"{config._attn_implementation!r}; load it with attn_implementation='sdpa'."
        )
    if backbone.training:
        raise ModelError("the model is in training mode, so dropout would change its answers; call eval() on it first.")
    return {kind: config.sliding_window if kind == _SLIDING else None for kind in sorted(kinds)}


def _check_lengths(lengths: list[int], answer_length: int, max_positions: int | None) -> None:
    if not lengths:
        raise RequestError("expected at least one prompt, got none.")
    if min(lengths) == 0:
        raise RequestError(
            f"the prompt of request {lengths.index(0)} is empty; give it at least one token, such as BOS."
        )
    if max_positions is not None and max(lengths) + answer_length - 1 > max_positions:
        raise RequestError(
            f"the prompt of request {lengths.index(max(lengths))} has {max(lengths)} tokens, and with an answer of "
            f"{answer_length} it exceeds the {max_positions} positions of the model; shorten the history."
        )


def _text_config(backbone: Backbone) -> Any:
    return backbone.config.get_text_config(decoder=True)
