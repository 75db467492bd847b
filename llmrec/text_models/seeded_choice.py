"""How a model's next token is chosen: greedily or sampled, each row of a batch by a seed of its own.

Letters: B rows of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor


@dataclass(frozen=True)
class Choice:
    """How one row's tokens are chosen: the likeliest at temperature 0, else sampled by `seed`, which depends on nothing else.

    top_p: samples are among the likeliest tokens whose probabilities reach it. repetition_penalty: Keskar et al. 2019, on what the
    row's answer has said and not on its prompt, for genres and titles may be repeated.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


class SeededChoice(LogitsProcessor):
    """Makes the greatest score the token to take, so that `generate` without sampling takes it, whatever the batch.

    A sample from softmax(logits / temperature) is argmax(logits / temperature + Gumbel noise), the noise of each row its own.
    """

    def __init__(self, choices: Sequence[Choice], num_prompt_tokens: int) -> None:
        """choices: one per row; num_prompt_tokens: of the padded prompts."""
        self.choices, self.num_prompt_tokens = choices, num_prompt_tokens
        self.generators = [torch.Generator().manual_seed(choice.seed) for choice in choices]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids: int64 (B, T); scores: (B, V) -> float32 (B, V)."""
        scores, said = scores.float().clone(), input_ids[:, self.num_prompt_tokens :]
        penalty = torch.tensor([choice.repetition_penalty for choice in self.choices], device=scores.device)[:, None]
        old = scores.gather(1, said)
        scores.scatter_(1, said, torch.where(old > 0, old / penalty, old * penalty))
        for row, choice in enumerate(self.choices):
            if choice.temperature > 0:
                kept = _nucleus(scores[row] / choice.temperature, choice.top_p)
                uniform = torch.rand(len(kept), generator=self.generators[row]).clamp_(1e-12, 1 - 1e-7)
                scores[row] = kept - (-uniform.log()).log().to(kept.device)
        return scores


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The likeliest tokens whose probabilities reach top_p, at least one; all others -inf. logits: float32 (V,)."""
    if top_p >= 1:
        return logits
    ordered, places = logits.sort(descending=True)
    before = ordered.softmax(0).cumsum(0) - ordered.softmax(0)
    return logits.index_fill(0, places[before >= top_p], -math.inf)
