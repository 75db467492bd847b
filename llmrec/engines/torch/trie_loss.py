"""The training loss of the softmax scope `trie`: each token of an answer against the tokens that also continue an item.

-log p(item) = -sum_d log softmax over the children of the node that the first d tokens lead to: the sum over an item's tokens is
what the decoder scores the item by in the same scope. The children are those of the whole catalogue. A node with one
child costs nothing and teaches nothing, so its position is left out of the head altogether.

Letters: N targets, D width, U different nodes, C candidate tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens
from llmrec.nn.losses import allowed_token_loss


class TrieLoss:
    """Summed negative log-likelihood of whole answers under the scope `trie`. Logits are computed for candidate tokens only."""

    def __init__(self, item_tokens: ItemTokens, trie: TokenTrie) -> None:
        """trie: of these very item tokens, on any device."""
        self._item_tokens = item_tokens
        self._trie = trie

    def __call__(self, backbone: Backbone, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """float32 (). hidden (N, D) and targets int64 (N,) as `Backbone.labelled_states` gives them: the targets are whole items,
        one after another."""
        self._trie = self._trie.to(targets.device)
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
        nodes, node_of = states[positions].unique(return_inverse=True)  # (U,), (number of positions,)
        assert bool((nodes >= 0).all()), "targets are whole items of the catalogue"
        children, _ = self._trie.children(nodes, depth)  # (U, W), padded with -1
        is_child = children >= 0
        is_open = is_child.sum(1) > 1  # (U,): more than one way on
        asked = is_open[node_of]
        if not bool(asked.any()):
            return hidden.new_zeros((), dtype=torch.float32)
        positions, node_of = positions[asked], node_of[asked]
        is_child &= is_open[:, None]
        candidates = children[is_child].unique()  # (C,), ascending
        is_allowed = torch.zeros(len(nodes), len(candidates), dtype=torch.bool, device=hidden.device)
        owner = torch.nonzero(is_child)[:, 0]
        is_allowed[owner, torch.searchsorted(candidates, children[is_child])] = True
        return allowed_token_loss(
            backbone.token_logits(hidden[positions], candidates),
            is_allowed[node_of],
            torch.searchsorted(candidates, targets[positions]),
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
