"""A language model as recommenders use it: the model, how it writes items, how it is asked, what it remembers of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.serving import pack
from llmrec.data.catalog import Catalog
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree, can_take_prompts_apart
from llmrec.items.forms import ItemTokens
from llmrec.prompting.encoder import PromptEncoder
from llmrec.recommenders.requests import (
    Requests,
)

TOKENS_A_PASS = 8192  # prompt tokens, padding included, that one forward pass holds


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """What a recommender made of a language model consists of: the model, how it writes items, how it is asked."""

    backbone: Backbone
    item_tokens: ItemTokens
    encoder: PromptEncoder
    catalog: Catalog
    softmax_scope: SoftmaxScope
    prompt_forms: tuple[str, ...] = ()  # item forms in the prompt; none: the form of the answers
    adaptation: str | None = (
        None  # how the backbone was trained, "LoRA" for example; None: not said, as before a run is saved
    )
    prompt_cache: PromptCache | None = None  # what returning users' prompts begin with, for a model that serves

    @property
    def card(self) -> dict:
        """Facts for reports and manifests."""
        return {
            "backbone": self.backbone.source.card(),
            "layers": str(self.backbone.layers),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            **({} if self.adaptation is None else {"adaptation": self.adaptation}),
            "form": self.item_tokens.form,
            "prompt_forms": list(self.prompt_forms or (self.item_tokens.form,)),
            "softmax_scope": self.softmax_scope,
            "prompt": f"{self.encoder.prompt.task}/{self.encoder.prompt.name}",
            "prompt_hash": self.encoder.prompt.hash,
            "max_history": self.encoder.max_history,
            "history_step": self.encoder.history_step,
        }

    def prompts(self, requests: Requests) -> list[np.ndarray]:
        """Token ids of each request's prompt: int32 (T_u,)."""
        instructions = requests.instructions or [None] * len(requests)
        return [
            self.encoder.encode(requests.histories[row], instruction)
            for row, instruction in zip(range(len(requests)), instructions, strict=True)
        ]

    def batches(self, prompts: list[np.ndarray], *, positions_a_prompt: int = 0) -> Iterator[np.ndarray]:
        """Row numbers of prompts to run together: with like many tokens to read, TOKENS_A_PASS positions at most.

        positions_a_prompt: positions each prompt takes beyond its own tokens (the nodes of its beams).
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        unread = lengths.copy()
        if self.prompt_cache is not None:
            unread -= [self.prompt_cache.longest(prompt)[0] for prompt in prompts]
        order = np.lexsort((lengths, unread))
        start = 0
        while start < len(order):
            stop, longest = start + 1, lengths[order[start]]
            while stop < len(order):
                longest = max(longest, lengths[order[stop]])
                fits = (stop + 1 - start) * (longest + positions_a_prompt) <= TOKENS_A_PASS
                # a newcomer among returning users would have all of them padded to its own length
                is_alike = self.prompt_cache is None or unread[order[stop]] <= 2 * unread[order[start]] + 32
                if not (fits and is_alike):
                    break
                stop += 1
            yield order[start:stop]
            start = stop

    def last_hidden(self, prompts: list[np.ndarray], *, alike: bool = False) -> torch.Tensor:
        """The hidden state of each prompt's last token: (B, D).

        alike: prompts of one question after another, whose common beginning is read once and which no memory is to keep.
        """
        backbone = self.backbone
        if self.prompt_cache is not None and not alike:
            return PromptTree(backbone, prompts, 1, self.prompt_cache).last_hidden
        if alike and can_take_prompts_apart(backbone):
            return PromptTree(backbone, prompts, 1).last_hidden
        ids, mask, last = _padded(prompts, backbone.device)
        return backbone.hidden_states(ids, attention_mask=mask, read_at=last)[:, 0]


def ready_to_serve(model: LanguageModel, *, prompt_cache_bytes: int) -> LanguageModel:
    """The model for inference alone: its weights packed on a CPU (it cannot be trained or saved afterwards), and with
    a memory of the prompts it has read. prompt_cache_bytes: 0 for none; models whose layers cannot take prompts apart
    (recurrent ones) have none either."""
    # the scope `trie` compares single words and a click prompt two: the rows of the output layer are enough
    reads_head = model.softmax_scope == "vocabulary" and model.encoder.prompt.answers is None
    pack(model.backbone, head=reads_head)
    if prompt_cache_bytes == 0 or not can_take_prompts_apart(model.backbone):
        return model
    return replace(model, prompt_cache=PromptCache(prompt_cache_bytes))


def _padded(prompts: list[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids and mask, int64 (B, T), and the position of each prompt's last token, int64 (B,)."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.as_tensor(prompt.astype(np.int64))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device), (lengths - 1).to(device)
