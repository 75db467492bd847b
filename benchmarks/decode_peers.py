"""The peers of benchmarks/decode.py: transformers' own beam search, restricted to the catalogue in the ways people use.

| peer | how items are enforced | prompt |
|---|---|---|
| hf | `prefix_allowed_tokens_fn` on a trie of dictionaries | read by every beam, as `generate` does |
| hf_prefill_once | the same | read once, its cache repeated for the beams and handed to `generate` |
| hf_hash_mask | a logits processor with a dictionary of prefixes and a vocabulary-wide mask per beam, as MiniOneRec's | as hf |

The scope `level` has no option of `generate`: a logits processor subtracts the log-sum over the level's tokens instead.

Letters: B requests, K beams, T prompt tokens, V tokens of the vocabulary, L tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from llmrec.items.forms import ItemTokens

Found = tuple[list[list[int]], torch.Tensor]  # items (B, K) and scores float (B, K), best first


class Generate:
    """`generate` with K beams over a catalogue, on a plain model whose vocabulary holds the item tokens."""

    def __init__(self, model: torch.nn.Module, item_tokens: ItemTokens, num_beams: int, scope: str) -> None:
        self.model = model
        self.num_beams = num_beams
        self.length = item_tokens.max_length
        rows = [tuple(row) for row in item_tokens.sequences.tolist()]
        self.item_of = {row: item for item, row in enumerate(rows)}
        self.trie: dict = {}
        self.followers: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            node = self.trie
            for depth, token in enumerate(row):
                if token not in node:
                    node[token] = {}
                    self.followers.setdefault(row[:depth], []).append(token)
                node = node[token]
        low, high = item_tokens.sequences.min(axis=0).tolist(), item_tokens.sequences.max(axis=0).tolist()
        self.levels = [slice(first, last + 1) for first, last in zip(low, high, strict=True)]
        self.scope = scope
        self.settings = GenerationConfig(
            num_beams=num_beams,
            num_return_sequences=num_beams,
            max_new_tokens=self.length,
            min_new_tokens=self.length,
            do_sample=False,
            length_penalty=0.0,
            renormalize_logits=scope == "trie",
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )

    def plain(self, ids: torch.Tensor) -> Found:
        """ids: int64 (B, T)."""
        return self._run(ids, prefix_allowed_tokens_fn=self._allowed(ids.shape[1]))

    @torch.no_grad()
    def prefill_once(self, ids: torch.Tensor) -> Found:
        """The cache of all prompt tokens but the last (which `generate` wants to read itself), repeated for the beams."""
        cache = DynamicCache()
        self.model.base_model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(self.num_beams)
        return self._run(ids, prefix_allowed_tokens_fn=self._allowed(ids.shape[1]), past_key_values=cache)

    def hash_mask(self, ids: torch.Tensor) -> Found:
        """A mask over the vocabulary for every beam, from a dictionary of prefixes."""
        return self._run(ids, processors=[_HashMask(self.followers, ids.shape[1])])

    def _allowed(self, prompt_length: int) -> Callable[[int, torch.Tensor], list[int]]:
        def allowed(_: int, row: torch.Tensor) -> list[int]:
            node = self.trie
            for token in row[prompt_length:].tolist():
                node = node[token]
            return list(node)

        return allowed

    @torch.no_grad()
    def _run(self, ids: torch.Tensor, processors: list[LogitsProcessor] | None = None, **rest: object) -> Found:
        processors = list(processors or [])
        if self.scope == "level":
            processors.insert(0, _LevelSoftmax(self.levels, ids.shape[1]))
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=self.settings,
            logits_processor=LogitsProcessorList(processors),
            **rest,
        )
        answers = out.sequences[:, ids.shape[1] :].tolist()
        items = [self.item_of[tuple(answer)] for answer in answers]
        rows = [items[start : start + self.num_beams] for start in range(0, len(items), self.num_beams)]
        return rows, out.sequences_scores.view(len(ids), self.num_beams)


class _HashMask(LogitsProcessor):
    """-inf where a token does not continue a prefix; scores (B * K, V)."""

    def __init__(self, followers: dict[tuple[int, ...], list[int]], prompt_length: int) -> None:
        self.followers, self.prompt_length = followers, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        mask = torch.full_like(scores, float("-inf"))
        for row, prefix in enumerate(input_ids[:, self.prompt_length :].tolist()):
            mask[row, self.followers[tuple(prefix)]] = 0
        return scores + mask


class _LevelSoftmax(LogitsProcessor):
    """Log-probabilities over the tokens of the level; scores (B * K, V) come as log-probabilities over the vocabulary."""

    def __init__(self, levels: list[slice], prompt_length: int) -> None:
        self.levels, self.prompt_length = levels, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        level = self.levels[input_ids.shape[1] - self.prompt_length]
        return scores - scores[:, level].logsumexp(dim=1, keepdim=True)
