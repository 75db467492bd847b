"""The engine that runs the Hugging Face model itself, in this process.

Letters: B prompts, T tokens, D width, R item embeddings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.packed_attention import PackedLayout
from llmrec.backbones.packing_check import can_read_packed
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.beams import Trace
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.likelihood import score_candidates
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree, can_take_prompts_apart
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens
from llmrec.prompting.packing import pack_prompts

TOKENS_A_PASS = 8192  # prompt tokens, padding included, that one forward pass holds
# Prompts of a pack, where all of them begin alike: the longer a pack, the more of its attention goes over what they share. 16 questions
# about four items each were read fastest at a time (SmolLM2-135M, titles, bfloat16).
PROMPTS_A_PACK = 16


@dataclass(frozen=True, eq=False)
class TorchEngine:
    """See `llmrec.engines.engine.Engine`. prompt_cache: what returning users' prompts begin with, for a model that serves."""

    backbone: Backbone
    prompt_cache: PromptCache | None = None

    @property
    def device(self) -> torch.device:
        """The model's."""
        return self.backbone.device

    @property
    def card(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"dtype": str(self.backbone.dtype).removeprefix("torch.")}

    def batches(self, prompts: Sequence[np.ndarray], *, positions_a_prompt: int = 0) -> Iterator[np.ndarray]:
        """Row numbers of prompts to run together: with like many tokens to read, TOKENS_A_PASS positions at most."""
        lengths = np.array([len(prompt) for prompt in prompts])
        unread = lengths.copy()
        if self.prompt_cache is not None:
            unread -= [self.prompt_cache.num_known(prompt) for prompt in prompts]
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

    def beam_search(
        self,
        trie: TokenTrie,
        prompts: Sequence[np.ndarray],
        k: int,
        *,
        num_beams: int,
        allowed_items: AllowedItems | None,
        softmax_scope: SoftmaxScope,
        trace: Trace | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `beam_search`."""
        return beam_search(
            self.backbone.eval(), trie, prompts, k, num_beams=num_beams, allowed_items=allowed_items,
            softmax_scope=softmax_scope, prompt_cache=self.prompt_cache, trace=trace,
        )  # fmt: skip

    def score_candidates(
        self,
        trie: TokenTrie,
        item_tokens: ItemTokens,
        prompts: Sequence[np.ndarray],
        candidates: np.ndarray,
        *,
        softmax_scope: SoftmaxScope,
    ) -> Tensor:
        """See `score_candidates`."""
        return score_candidates(
            self.backbone.eval(), item_tokens, prompts, candidates,
            softmax_scope=softmax_scope, trie=trie, prompt_cache=self.prompt_cache,
        )  # fmt: skip

    @torch.no_grad()
    def item_logits(self, prompts: Sequence[np.ndarray]) -> Callable[[slice], Tensor]:
        """See `Engine`; a slice is computed when it is asked for."""
        return functools.partial(self.backbone.item_logits, self.last_hidden(prompts))

    @torch.no_grad()
    def item_log_probs(self, prompts: Sequence[np.ndarray], *, softmax_scope: SoftmaxScope) -> Tensor:
        """See `Engine`."""
        hidden = self.last_hidden(prompts)
        if softmax_scope == "vocabulary":
            return self.backbone.logits(hidden).log_softmax(dim=-1)[:, self.backbone.base_vocab_size :].cpu()
        return self.backbone.item_logits(hidden).log_softmax(dim=-1).cpu()

    def last_hidden(self, prompts: Sequence[np.ndarray], *, alike: bool = False) -> Tensor:
        """The hidden state of each prompt's last token: (B, D).

        alike: prompts of one question after another, whose common beginning is read once and which no memory is to keep.
        """
        backbone = self.backbone.eval()
        if self.prompt_cache is not None and not alike:
            return PromptTree(backbone, prompts, 1, self.prompt_cache).last_hidden
        if alike and can_take_prompts_apart(backbone):
            return PromptTree(backbone, prompts, 1).last_hidden
        ids, mask, last = _padded(prompts, backbone.device)
        return backbone.hidden_states(ids, attention_mask=mask, read_at=last)[:, 0]

    @functools.cached_property
    def reads_packed(self) -> bool:
        """Whether `packed_last_hidden` is open: to models on a CPU that compute for a pack what they compute for each prompt."""
        return can_read_packed(self.backbone)

    def packed_last_hidden(self, prompts: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        """The rows of a few prompts, int (B,), and their last tokens' hidden states, (B, D); until all prompts were read.

        Prompts go by their tokens, so that those of one history stand together; what prompts of a pack begin with alike is read once,
        at any depth: the instruction of all, and the history of each user's.
        """
        backbone = self.backbone.eval()
        order = np.array(
            sorted(range(len(prompts)), key=lambda row: prompts[row].astype(">u4").tobytes()), dtype=np.int64
        )
        for start in range(0, len(order), PROMPTS_A_PACK):
            rows = order[start : start + PROMPTS_A_PACK]
            pack = pack_prompts([prompts[row] for row in rows])
            layout = PackedLayout(pack["seen_until"], pack["position_ids"])
            hidden = backbone.hidden_states(pack["input_ids"], position_ids=pack["position_ids"], packed_layout=layout)
            yield rows, hidden[0, pack["predict_at"]]

    @property
    def is_alive(self) -> bool:
        """It is this process."""
        return True

    def close(self) -> None:
        """Nothing to give back: the model goes with its last reference."""


def _padded(prompts: Sequence[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids and mask, int64 (B, T), and the position of each prompt's last token, int64 (B,)."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.as_tensor(prompt.astype(np.int64))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device), (lengths - 1).to(device)
