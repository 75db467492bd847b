"""The training loss of the softmax scope `trie`: each token of an answer against the tokens that also continue an item.

-log p(item) = -sum_d log softmax over the children of the node that the first d tokens lead to: the sum over an item's tokens is
what the decoder scores the item by in the same scope. A node with one child costs nothing and teaches nothing, so its position is
left out of the head altogether.

The children are those of the whole catalogue, or only those that lead to an item with training events: a child that never was an
answer would be pushed down at every pass by its node, and all items below it would be taught away. The decoder's children are those
of the whole catalogue all the same, so the loss is then its score among the items with training events.

Letters: N targets, D width, I items, P targets of one depth, U different nodes, C candidate tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens
from llmrec.nn.losses import allowed_token_loss


class TrieLoss:
    """Summed negative log-likelihood of whole answers under the scope `trie`. Logits are computed for candidate tokens only."""

    def __init__(self, item_tokens: ItemTokens, trie: TokenTrie, seen: np.ndarray | None = None) -> None:
        """trie: of these very item tokens, on any device. seen: bool (I,), the items that answers compete with, such as those with
        training events; None: all. A target competes with them even where it is none of them."""
        self._item_tokens = item_tokens
        self._trie = trie
        self._seen = None if seen is None or seen.all() else seen
        self._leads_to_seen = self._allowed()

    def _allowed(self) -> AllowedItems | None:
        if self._seen is None:
            return None
        return AllowedItems(self._trie, 1, ItemBitmap.of(self._trie, self._seen[None]), None)

    def __call__(self, backbone: Backbone, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """float32 (). hidden (N, D) and targets int64 (N,) as `Backbone.labelled_states` gives them: the targets are whole items,
        one after another."""
        if self._trie.items.device != targets.device:
            self._trie = self._trie.to(targets.device)
            self._leads_to_seen = self._allowed()
        depths = self._depths(targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        states = torch.full_like(targets, self._trie.root)
        for depth in range(self._trie.depth):
            positions = torch.nonzero(depths == depth).flatten()
            if depth > 0:
                states[positions] = self._trie.child(states[positions - 1], depth - 1, targets[positions - 1])
            total = total + self._level_loss(backbone, hidden, targets, states, positions, depth, label_smoothing)
        return total

    def _level_loss(
        self,
        backbone: Backbone,
        hidden: Tensor,
        targets: Tensor,
        states: Tensor,
        positions: Tensor,
        depth: int,
        label_smoothing: float,
    ) -> Tensor:
        """The loss of the targets at `positions`, all of one depth."""
        nodes, node_of = states[positions].unique(return_inverse=True)  # (U,), (P,)
        assert bool((nodes >= 0).all()), "targets are whole items of the catalogue"
        children, next_states = self._trie.children(nodes, depth)  # (U, W) each, padded with -1
        competes = children >= 0
        if self._leads_to_seen is not None:
            competes &= self._leads_to_seen.is_allowed(next_states[None])[0]
        wanted = targets[positions]
        candidates = torch.cat([children[competes], wanted]).unique()  # (C,), ascending
        is_allowed = torch.zeros(len(nodes), len(candidates), dtype=torch.bool, device=hidden.device)
        is_allowed[torch.nonzero(competes)[:, 0], torch.searchsorted(candidates, children[competes])] = True
        is_allowed = is_allowed[node_of]  # (P, C)
        is_allowed.scatter_(1, torch.searchsorted(candidates, wanted)[:, None], True)
        asked = is_allowed.sum(1) > 1  # more than one way on
        if not bool(asked.any()):
            return hidden.new_zeros((), dtype=torch.float32)
        is_allowed = is_allowed[asked]
        used = is_allowed.any(0)
        candidates = candidates[used]
        return allowed_token_loss(
            backbone.token_logits(hidden[positions[asked]], candidates),
            is_allowed[:, used],
            torch.searchsorted(candidates, wanted[asked]),
            label_smoothing=label_smoothing,
        )

    def _depths(self, targets: Tensor) -> Tensor:
        """The position of each target in its item's sequence, int64 (N,)."""
        positions = torch.arange(len(targets), device=targets.device)
        if self._item_tokens.end_token is None:
            return positions % self._item_tokens.max_length  # all items are of one length
        ends = torch.nonzero(targets == self._item_tokens.end_token).flatten()
        starts = torch.cat([ends.new_zeros(1), ends + 1])  # where items begin
        return positions - starts[torch.searchsorted(ends, positions)]
