"""The softmax scopes: what an answer's tokens are compared with, whoever reads the model.

| scope | softmax at an answer position over | right for |
|---|---|---|
| `vocabulary` | the vocabulary and all item tokens | models trained on that loss; equals Hugging Face's own scores |
| `level` | the item tokens of that level (all items for unique ids) | models trained with the `level` loss |
| `trie` | the tokens that continue an item of the catalogue; equals Hugging Face's `renormalize_logits` | the `trie` loss |


The children are always those of the whole catalogue: a filter decides what may come out and never changes a score.

Letters: B requests, C candidates, L tokens of the longest answer, U nodes, W children.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.trie import TokenTrie
from llmrec.errors import ModelError, RequestError
from llmrec.items.forms import ItemTokens

_CHILDREN_AT_ONCE = 1 << 20  # numbers that are compared at a time on the way down the trie


def rows_of_levels(
    backbone: Backbone, scope: SoftmaxScope, token_ranges: Sequence[tuple[int, int]]
) -> list[slice | None]:
    """For each position of an answer the rows of the item table that its level has, or None where words stand there too.

    token_ranges: the lowest and highest token id at each position. Raises ModelError where the model has no such tokens or
    `scope` cannot score them.
    """
    if scope not in get_args(SoftmaxScope):
        raise ModelError(f"expected a softmax scope of {', '.join(get_args(SoftmaxScope))}, got {scope!r}.")
    highest = max(high for _, high in token_ranges)
    if highest >= backbone.num_tokens:
        raise ModelError(
            f"the item tokens reach id {highest}, but the model has only {backbone.num_tokens} tokens, its item table "
            "included; use the model they were made for."
        )
    starts = [] if backbone.item_table is None else backbone.item_table.starts
    levels = [slice(*bounds) for bounds in itertools.pairwise(starts)] + [None] * len(token_ranges)
    base = backbone.base_vocab_size
    rows = [
        level if level is not None and low >= base + level.start and high < base + level.stop else None
        for (low, high), level in zip(token_ranges, levels, strict=False)
    ]
    if scope == "level" and None in rows:
        raise ModelError(
            "the softmax scope 'level' normalises over the item tokens of one level, and these answers also hold other "
            "tokens, as titles do; use the scope 'vocabulary' or 'trie', or the form unique_id or semantic_id."
        )
    return rows


@dataclass(frozen=True, eq=False)
class Children:
    """The tokens that continue an item at one position of B x C answers: int64 (U, W), padded with -1, of the U nodes they have
    reached, and which node each has, int64 (B, C). Candidates share most nodes, and the root has many children."""

    tokens: Tensor
    node_of: Tensor

    def of(self, part: slice) -> Tensor:
        """Those of some candidates: int64 (B, |part|, W)."""
        return self.tokens[self.node_of[:, part]]


def children_on_the_way(trie: TokenTrie, answers: Tensor) -> list[Children]:
    """What may stand at each of the L positions of the answers, int64 (B, C, L), -1 beyond the end."""
    states = torch.full(answers.shape[:2], trie.root, device=answers.device)
    children = []
    for depth in range(answers.shape[2]):
        nodes, node_of = states.unique(return_inverse=True)
        tokens, next_states = trie.children(nodes, depth)  # (U, W) each
        children.append(Children(tokens, node_of))
        flat, wanted = node_of.flatten(), answers[..., depth].flatten()
        if tokens.shape[1] == 0:
            break
        steps = []
        for rows in torch.arange(len(flat), device=flat.device).split(max(1, _CHILDREN_AT_ONCE // tokens.shape[1])):
            is_it = tokens[flat[rows]] == wanted[rows, None]  # (R, W)
            steps.append(next_states[flat[rows]].masked_fill(~is_it, -1).amax(1))
        states = torch.cat(steps).view(states.shape).masked_fill(answers[..., depth] < 0, -1)
    return children


def candidate_tokens(item_tokens: ItemTokens, prompts: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
    """Tokens of each candidate's answer, int64 (B, C, L), padded with -1 to the longest of them."""
    candidates = np.asarray(candidates)
    if candidates.ndim != 2 or len(candidates) != len(prompts):
        raise RequestError(
            f"expected candidates of shape ({len(prompts)}, C), one row per prompt, got {tuple(candidates.shape)}."
        )
    wrong = (candidates < 0) | (candidates >= item_tokens.num_items)
    if wrong.any():
        raise RequestError(
            f"expected candidates in [0, {item_tokens.num_items}), the items of the catalogue, got {candidates[wrong][0]}."
        )
    longest = int(item_tokens.lengths[candidates].max(initial=1))
    return torch.from_numpy(item_tokens.sequences[candidates][..., :longest].astype(np.int64))
