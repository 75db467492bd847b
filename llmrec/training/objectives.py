"""A recipe's objective as one module, and the loss of items as answers: what the decoder will score them by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from llmrec.backbones.adapters import trained_state
from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.config import Settings
from llmrec.data.interactions import Interactions
from llmrec.engines.torch.trie_loss import TrieLoss
from llmrec.engines.trie import TokenTrie
from llmrec.errors import ArtifactError, ConfigError
from llmrec.items.forms import ONE_TOKEN_FORMS
from llmrec.nn.losses import allowed_token_loss, token_loss
from llmrec.prompting.answer_words import AnswerWords
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.pointwise import liked_logits

Batch = dict[str, torch.Tensor]
ComputeLoss = Callable[[Backbone, Batch], tuple[torch.Tensor, int]]
ItemLoss = Callable[[Backbone, torch.Tensor, torch.Tensor], torch.Tensor]


class Objective(nn.Module):
    """A backbone and what is minimised on it, as one module, so that every trained parameter is used inside one forward pass.

    Its state holds the trained parameters only: a checkpoint is megabytes, whatever the frozen model weighs.
    """

    def __init__(self, backbone: Backbone, compute_loss: ComputeLoss):
        super().__init__()
        self.backbone = backbone
        self.compute_loss = compute_loss
        self._no_split_modules = backbone.causal_lm._no_split_modules  # the layer classes that FSDP shards one by one

    def forward(
        self, num_items_in_batch: torch.Tensor | int | None = None, **batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The mean loss over the targets of the whole optimiser step, of which this batch may be a part.

        `num_items_in_batch` counts those targets over all micro-batches and processes: eight batches of one then give the
        gradient of one batch of eight, exactly.
        """
        total, count = self.compute_loss(self.backbone, batch)
        return {"loss": total / (count if num_items_in_batch is None else num_items_in_batch)}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The trained parameters."""
        return trained_state(self)

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Loads exactly the trained parameters; a missing or foreign one is an error whatever `strict` says."""
        check_same_parts(state_dict, trained_state(self), "the checkpoint")
        super().load_state_dict(state_dict, strict=False, assign=assign)
        return _IncompatibleKeys([], [])  # the frozen parameters are not missing


def check_same_parts(found: Iterable[str], trained: Iterable[str], where: str) -> None:
    """Raises ArtifactError where what `where` holds is not exactly the model's trained parameters."""
    if different := set(found) ^ set(trained):
        raise ArtifactError(
            f"{where} and the model train different parts, for example {min(different)}; give the settings it was made with, or "
            "start over with --fresh."
        )


class ScopeSettings(Settings):
    """Over what answers are scored, in training and in decoding."""

    softmax_scope: SoftmaxScope | None = None  # None: level, or vocabulary for the text form
    # what answers compete with in training. seen: items with training events; all: the catalogue; auto: seen where the scope can
    negatives: Literal["auto", "seen", "all"] = "auto"

    def scope_of(self, form: str) -> SoftmaxScope:
        """The scope for answers in this form. Raises ConfigError for titles level by level: their words have no levels."""
        if form == "text" and self.softmax_scope == "level":
            raise ConfigError(
                "loss.softmax_scope=level is for items with tokens of their own, but items.form=text writes titles in the model's "
                "words. Take loss.softmax_scope=trie, which leaves no word that no title goes on with, or vocabulary."
            )
        return self.softmax_scope or ("vocabulary" if form == "text" else "level")

    def settled(self, form: str, *, goes_on: bool) -> Self:
        """The same with seen or all instead of auto. goes_on: the run was begun before; one that kept no more than "auto" is older than
        the setting and goes on as it began, with all. Raises ConfigError where this scope cannot leave items out."""
        scope = self.scope_of(form)
        leaves_out = scope == "trie" or (scope == "level" and form in ONE_TOKEN_FORMS)
        if self.negatives == "seen" and not leaves_out:
            raise ConfigError(
                f"loss.negatives=seen leaves items without training events out of the softmax, but loss.softmax_scope={scope} with "
                f"items.form={form} normalises over tokens that belong to no item alone. Take loss.softmax_scope=trie, or "
                "loss.negatives=all."
            )
        if self.negatives != "auto":
            return self
        return self.model_copy(update={"negatives": "seen" if leaves_out and not goes_on else "all"})

    def seen(self, train: Interactions) -> np.ndarray | None:
        """bool (num_items,), the items that answers compete with; None: all."""
        assert self.negatives != "auto", "settled before a model is made"
        return train.counts() > 0 if self.negatives == "seen" else None


def item_loss_of(model: LanguageModel, seen: np.ndarray | None = None, *, label_smoothing: float = 0.0) -> ItemLoss:
    """(backbone, hidden (N, D), targets (N,)) -> -log p of the items' tokens by the model's softmax scope, summed.

    Where an item is one token the children of the trie's root are the level, so the rules `trie` and `level` are the same.

    seen: bool (num_items,), the items that answers compete with, such as those with training events; None: all.
    """
    tokens, scope = model.item_tokens, model.softmax_scope
    if tokens.form in ONE_TOKEN_FORMS and scope != "vocabulary":
        if seen is None or seen.all():
            return lambda backbone, hidden, targets: backbone.loss(
                hidden, targets, scope="level", label_smoothing=label_smoothing
            )
        assert np.array_equal(tokens.sequences[:, 0], tokens.base_vocab_size + np.arange(len(seen))), "row i is item i"
        return lambda backbone, hidden, targets: seen_items_loss(
            backbone, hidden, targets, torch.from_numpy(seen).to(hidden.device), label_smoothing=label_smoothing
        )
    if scope == "trie":
        trie_loss = TrieLoss(tokens, TokenTrie.from_item_tokens(tokens), seen)
        return lambda backbone, hidden, targets: trie_loss(backbone, hidden, targets, label_smoothing=label_smoothing)
    assert seen is None, f"the scope {scope} of the form {tokens.form} cannot leave items out"
    return lambda backbone, hidden, targets: backbone.loss(
        hidden, targets, scope=scope, label_smoothing=label_smoothing
    )


def seen_items_loss(
    backbone: Backbone, hidden: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-log softmax over the items with training events, summed: float32 (). An item without one is no negative, so that nothing
    teaches it away; where it is the target itself (an alignment example), it competes with the others.

    hidden (N, D); targets int64 (N,), item tokens; seen: bool (num_items,). Equals the scope `level` where all are seen.
    """
    rows = targets - backbone.base_vocab_size
    is_allowed = seen.expand(len(rows), -1).clone().scatter_(1, rows[:, None], True)  # (N, num_items)
    return allowed_token_loss(backbone.item_logits(hidden), is_allowed, rows, label_smoothing=label_smoothing)


def click_loss_of(words: AnswerWords) -> ItemLoss:
    """(backbone, hidden (N, D), targets (N,)) -> -log p of the right one of the two answer words, summed.

    The softmax over two words is a sigmoid of the difference of their logits, so this is binary cross-entropy on P(liked).
    """

    def loss(backbone: Backbone, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return token_loss(liked_logits(backbone, hidden, words), (targets != words.liked).long())

    return loss
