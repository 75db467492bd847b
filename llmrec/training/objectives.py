"""The loss of items as answers: what the decoder will score them by."""

from __future__ import annotations

from collections.abc import Callable

import torch

from llmrec.backbones.causal_lm import Backbone
from llmrec.engines.torch.trie_loss import TrieLoss
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ONE_TOKEN_FORMS
from llmrec.recommenders.language_model import LanguageModel

ItemLoss = Callable[[Backbone, torch.Tensor, torch.Tensor], torch.Tensor]


def item_loss_of(model: LanguageModel, *, label_smoothing: float = 0.0) -> ItemLoss:
    """(backbone, hidden (N, D), targets (N,)) -> -log p of the items' tokens by the model's softmax scope, summed.

    Where an item is one token the children of the trie's root are the level, so the rules `trie` and `level` are the same.
    """
    if model.softmax_scope == "trie" and model.item_tokens.form not in ONE_TOKEN_FORMS:
        trie_loss = TrieLoss(model.item_tokens, TokenTrie.from_item_tokens(model.item_tokens))
        return lambda backbone, hidden, targets: trie_loss(backbone, hidden, targets, label_smoothing=label_smoothing)
    scope = "level" if model.softmax_scope == "trie" else model.softmax_scope
    return lambda backbone, hidden, targets: backbone.loss(
        hidden, targets, scope=scope, label_smoothing=label_smoothing
    )
