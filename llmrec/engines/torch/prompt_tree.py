"""Prompts read once, then grown by trees of tokens: one cache that is only appended to, one mask that says who sees whom.

A tree node is an extra position after the prompt. It sees the whole prompt, its ancestors and itself, and its position
number is the prompt's length plus its depth, so the model computes for it what it would compute for the plain sequence
prompt + ancestors + node. Beams that share a beginning share its nodes; choosing other beams changes only the next mask.

Prompts of unequal length are padded on the right: a causal model never looks there while reading the prompt, and the mask
hides the padding from the nodes. Reading therefore needs no mask at all, unless the prompts' beginnings are known already
(from a `PromptCache`, or because all prompts of the batch begin alike): then only what follows is read.

Images (Qwen-VL): an image's tokens have positions on three axes, which the backbone finds in their ids, and what stands after it
moves. A cache does not show its ids any more, so the tree remembers how far what it holds has moved the rest.

Exact for layers of full attention and of sliding windows. Sliding layers get their own mask, in true positions, over an
uncropped cache (transformers' default one forgets what is out of the window, which here would forget the wrong tokens).

Letters: B requests, P prompt positions held (padding included), R tokens read, N new nodes, S nodes so far, D width.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.grouped_attention import GROUPED
from llmrec.backbones.prefix import find_prefix
from llmrec.engines.torch.prompt_cache import PromptCache, empty_cache, known_states
from llmrec.engines.torch.tree_attention import reading_nodes
from llmrec.engines.torch.tree_cache import LayerStates
from llmrec.errors import ModelError, RequestError

# A common beginning is read once for all prompts if it has 16 tokens, and an eighth of the longest prompt: what follows it is read
# under a mask, which costs more than plain causal attention.
_WORTH_SHARING, _SHARE_OF_LONGEST = 16, 8
_FULL, _SLIDING = "full_attention", "sliding_attention"


class PromptTree:
    """B prompts in the model's cache, and the nodes grown on them.

    last_hidden: (B, D), the hidden state of each prompt's last token: it predicts the first token of the answer.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[np.ndarray],
        answer_length: int,
        prompt_cache: PromptCache | None = None,
    ) -> None:
        """Reads the prompts. prompts: B arrays of token ids, each int (>= 1,); answer_length: tokens an answer has at most;
        prompt_cache: where beginnings read before are found, and these prompts are remembered.

        Raises ModelError for a model whose layers cannot be grown this way, RequestError for a prompt that is empty or
        too long for the model together with the answer.
        """
        self._window_of = _windows(backbone)
        prefix = find_prefix(backbone)
        prefix_states = [] if prefix is None or not prefix.is_on else prefix.known_states(backbone.dtype)
        max_positions = getattr(_text_config(backbone), "max_position_embeddings", None)
        if prefix_states and max_positions is not None:
            max_positions -= prefix.num_tokens
        _check_lengths([len(prompt) for prompt in prompts], answer_length, max_positions)
        if prefix_states:  # tokens like any other from here on, but for being known: their ids are never looked up
            prompts = [np.concatenate([np.full(prefix.num_tokens, -1), prompt]) for prompt in prompts]
        lengths = [len(prompt) for prompt in prompts]
        self._backbone = backbone
        self._lengths = torch.tensor(lengths, device=backbone.device)  # (B,)
        self._cache = empty_cache(backbone)
        self._depths = torch.zeros(len(prompts), 0, dtype=torch.int64, device=backbone.device)  # (B, S)
        # (B, P) each: the position number of what the cache holds, and whether it is a token or padding
        self._positions = torch.zeros(len(prompts), 0, dtype=torch.int64, device=backbone.device)
        self._is_token = torch.zeros(len(prompts), 0, dtype=torch.bool, device=backbone.device)
        # (B,): how far the images in what was read have moved the positions of what follows
        self._moves = torch.zeros(len(prompts), dtype=torch.int64, device=backbone.device)

        known = [prompt_cache.longest(prompt) for prompt in prompts] if prompt_cache is not None else []
        if prefix_states:
            of_prefix = (prefix.num_tokens, prefix_states)
            known = [
                each if each[0] >= prefix.num_tokens else of_prefix for each in known or [of_prefix] * len(prompts)
            ]
        if any(length for length, _ in known):
            starts = self._put(known)
        else:
            starts = self._read_common_beginning(prompts)
        self._moves += self._moved_by([prompt[:start] for prompt, start in zip(prompts, starts, strict=True)])
        self.last_hidden = self._read([prompt[start:] for prompt, start in zip(prompts, starts, strict=True)])
        if prompt_cache is not None:
            for row, prompt in enumerate(prompts):
                prompt_cache.store(prompt, functools.partial(self._states, row))

    def _states(self, row: int) -> list[LayerStates]:
        """A copy of what the cache holds of one prompt, padding left out: keys and values (G, T, C) of every layer."""
        held = self._is_token[row]
        return [
            (layer.keys[row][:, : len(held)][:, held], layer.values[row][:, : len(held)][:, held])
            for layer in self._cache.layers
        ]

    def _put(self, known: list[tuple[int, list[LayerStates]]]) -> list[int]:
        """Puts known beginnings into the empty cache; their lengths."""
        lengths, layers = known_states(known, self._backbone.device)
        for layer, (keys, values) in enumerate(layers):
            self._cache.update(keys, values, layer)
        columns = torch.arange(int(lengths.max()), device=lengths.device).expand(len(lengths), -1)
        self._positions, self._is_token = columns, columns < lengths[:, None]
        return lengths.tolist()

    def _read_common_beginning(self, prompts: Sequence[np.ndarray]) -> list[int]:
        """Reads the tokens that all prompts begin with once, where that saves time; how many they are, B times."""
        num_common = common_length(prompts) if len(prompts) > 1 else 0
        if num_common < max(_WORTH_SHARING, max(map(len, prompts)) // _SHARE_OF_LONGEST):
            return [0] * len(prompts)
        alone = empty_cache(self._backbone)
        ids = torch.from_numpy(np.asarray(prompts[0][:num_common], dtype=np.int64))[None].to(self._backbone.device)
        self._backbone.hidden_states(ids, past_key_values=alone)
        return self._put([(num_common, [(x.keys[0], x.values[0]) for x in alone.layers])] * len(prompts))

    def _read(self, rests: list[np.ndarray]) -> Tensor:
        """Reads what follows the known beginnings, B arrays int (>= 1,); the hidden states of the last tokens, (B, D)."""
        device = self._backbone.device
        ids = torch.from_numpy(_padded(rests)).to(device)  # (B, R)
        lengths = torch.tensor([len(rest) for rest in rests], device=device)
        columns = torch.arange(ids.shape[1], device=device)
        # padding gets its row's last position: a model's table of positions may end there
        positions = torch.minimum((self._lengths - lengths)[:, None] + columns, self._lengths[:, None] - 1)
        num_known = self._positions.shape[1]
        self._positions = torch.cat([self._positions, positions], dim=1)
        self._is_token = torch.cat([self._is_token, columns < lengths[:, None]], dim=1)
        if num_known == 0:
            hidden = self._backbone.hidden_states(
                ids, position_ids=positions, past_key_values=self._cache, read_at=lengths - 1
            )
        else:
            before = columns <= columns[:, None]  # (R, R); padding lies after every token and so is never seen
            is_known = self._is_token[:, None, :num_known].expand(-1, len(columns), -1)
            visible = torch.cat([is_known, before.expand(len(rests), -1, -1)], dim=2)  # (B, R, P)
            hidden = self._hidden_states(ids, positions, visible, self._positions, read_at=lengths - 1)
        self._moves += self._moved_by(rests)
        return hidden[:, 0]

    def grow(self, tokens: Tensor, depths: Tensor, ancestors: Tensor) -> Tensor:
        """Appends nodes to every prompt and returns their hidden states (B, N, D).

        tokens: int64 (B, N). depths: int64 (B, N), 0 for the first token after the prompt. ancestors: bool (B, N, S + N),
        which nodes, old ones first, each new node sees; every new node sees itself and none after itself.
        """
        self._depths = torch.cat([self._depths, depths], dim=1)
        positions = self._lengths[:, None] + self._depths  # (B, S + N)
        prompt = self._is_token[:, None].expand(-1, ancestors.shape[1], -1)
        visible = torch.cat([prompt, ancestors], dim=2)  # (B, N, P + S + N)
        all_positions = torch.cat([self._positions, positions], dim=1)
        return self._hidden_states(tokens, positions[:, -tokens.shape[1] :], visible, all_positions)

    def prune(self) -> None:
        """Drops every node; the prompts stay."""
        self._cache.crop(-self._depths.shape[1])
        self._depths = self._depths[:, :0]

    def _hidden_states(
        self,
        ids: Tensor,
        positions: Tensor,
        visible: Tensor,
        all_positions: Tensor,
        *,
        read_at: Tensor | None = None,
    ) -> Tensor:
        """ids and their positions int64 (B, N), which of all positions they see, bool (B, N, M), and those, int64 (B, M).
        read_at: see `Backbone.hidden_states`."""
        lowest = torch.finfo(self._backbone.dtype).min
        masks = {}
        for kind, window in self._window_of.items():
            seen = visible
            if window is not None:
                seen = visible & (positions[..., None] - all_positions[:, None] < window)
            mask = torch.zeros(seen.shape, dtype=self._backbone.dtype, device=seen.device)
            masks[kind] = mask.masked_fill_(~seen, lowest)[:, None]  # (B, 1, N, M)
        with reading_nodes(_text_config(self._backbone)):
            return self._backbone.hidden_states(
                ids,
                attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
                position_ids=positions + self._moves[:, None],
                past_key_values=self._cache,
                read_at=read_at,
            )

    def _moved_by(self, tokens: Sequence[np.ndarray]) -> Tensor:
        """How far the images in B arrays of token ids move the positions of what stands after them: int64 (B,)."""
        return self._backbone.position_moves(torch.from_numpy(_padded(tokens)).to(self._backbone.device))


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of token ids side by side, padded with the word 0: int64 (B, R)."""
    padded = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    return padded


def common_length(prompts: Sequence[np.ndarray]) -> int:
    """How many tokens all prompts begin with alike, the last token of the shortest not counted."""
    shortest = min(len(prompt) for prompt in prompts) - 1
    differs = np.zeros(max(shortest, 0), dtype=bool)
    for prompt in prompts[1:]:
        differs |= prompt[: len(differs)] != prompts[0][: len(differs)]
    return int(np.argmax(differs)) if differs.any() else len(differs)


def can_take_prompts_apart(backbone: Backbone) -> bool:
    """Whether a `PromptTree` can be made of this model."""
    return _refusal(backbone) is None


def _windows(backbone: Backbone) -> dict[str, int | None]:
    """The kinds of attention layers and the window of each (None: sees everything), or a ModelError in one sentence."""
    refusal = _refusal(backbone)
    if refusal is not None:
        raise ModelError(refusal)
    if backbone.training:
        raise ModelError("the model is in training mode, so dropout would change its answers; call eval() on it first.")
    config = _text_config(backbone)
    return {kind: config.sliding_window if kind == _SLIDING else None for kind in sorted(_kinds(config))}


def _kinds(config: Any) -> set[str]:
    kind = _SLIDING if getattr(config, "sliding_window", None) else _FULL
    return set(getattr(config, "layer_types", None) or [kind])


def _refusal(backbone: Backbone) -> str | None:
    """Why beams cannot share a prompt in this model; None where they can."""
    config = _text_config(backbone)
    kinds = _kinds(config)
    name = type(backbone.causal_lm).__name__
    if backbone.causal_lm._is_stateful or not kinds <= {_FULL, _SLIDING}:
        return (
            f"{name} has recurrent or otherwise special layers ({', '.join(sorted(kinds))}), and beams can share a prompt "
            "only through full or sliding-window attention; choose a backbone of such layers."
        )
    takes_positions = "position_ids" in inspect.signature(backbone.body.forward).parameters
    if not takes_positions or getattr(config, "alibi", False) or config.model_type == "gpt_neo":
        return (
            f"{name} counts positions by index in the cache, where the beams of a request stand side by side; "
            "choose a backbone that takes position_ids in every layer."
        )
    if config._attn_implementation not in ("sdpa", "eager", GROUPED):
        return (
            f"the beam search needs attention that takes a mask, 'sdpa' or 'eager', but {name} was loaded with "
            f"{config._attn_implementation!r}; load it with attn_implementation='sdpa'."
        )
    return None


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
