"""What a recommender asks of an engine, which reads prompts and says how likely answers are.

| engine | what reads the model |
|---|---|
| torch | this process, the Hugging Face model itself (`engines.torch.engine`) |
| vllm | one vLLM engine on the exported checkpoint (`engines.vllm.engine`) |

Both give the same items in the same order, and scores that differ by rounding. Letters: B requests, C candidates, R item embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import SoftmaxScope
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.beams import Trace
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens

EngineName = Literal["torch", "vllm"]


class Engine(Protocol):
    """Prompts are int32 (T,) each, as `PromptEncoder` makes them."""

    @property
    def device(self) -> torch.device:
        """Where tries, and what is made with them, lie."""

    @property
    def card(self) -> dict[str, Any]:
        """What a report says of it (JSON values)."""

    def batches(self, prompts: Sequence[np.ndarray], *, positions_a_prompt: int = 0) -> Iterator[np.ndarray]:
        """Row numbers of prompts to ask about together. positions_a_prompt: of each beyond its own tokens, the nodes of its beams."""

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
        """The k best items of each prompt and their log-probabilities, on the CPU: int32 (B, k) padded with -1, float32 (B, k) padded
        with -inf. See `llmrec.engines.beams`; trace: see `grow_beams` there."""

    def score_candidates(
        self,
        trie: TokenTrie,
        item_tokens: ItemTokens,
        prompts: Sequence[np.ndarray],
        candidates: np.ndarray,
        *,
        softmax_scope: SoftmaxScope,
    ) -> Tensor:
        """The log-likelihood of each candidate's whole answer: integers (B, C) -> float32 (B, C) on the CPU."""

    def item_logits(self, prompts: Sequence[np.ndarray]) -> Callable[[slice], Tensor]:
        """After each prompt the logits of a slice of the item embeddings, float32 (B, M), but for a constant of each prompt."""

    def item_log_probs(self, prompts: Sequence[np.ndarray], *, softmax_scope: SoftmaxScope) -> Tensor:
        """After each prompt the log-probability of every item embedding, where an answer is one of them: float32 (B, R) on the CPU."""

    @property
    def is_alive(self) -> bool:
        """Whether what reads the model still runs."""

    def close(self) -> None:
        """Gives back what it holds; it answers nothing more."""
