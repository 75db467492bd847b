"""What a causal language model says may follow a text, where one text after another begins alike: only what is new is read.

Letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor
from transformers import DynamicCache

from llmrec.text_models.transformers import TransformersModel


class NextToken:
    """Asks a model for the next token of texts, and keeps keys and values of the latest one: a long prompt that begins every
    question is read once. Numbers are those of reading all anew, up to the rounding of sums in another order.

    tokens_read: that went through the model so far. Models whose layers forget what lies far back read all of each text.
    """

    def __init__(self, model: TransformersModel) -> None:
        self.model = model
        self.tokens_read = 0
        self._ids: list[int] = []
        self._cache: DynamicCache | None = None

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int]) -> Tensor:
        """The logits of what follows these ids, at least one of them: float32 (V,) on the model's device."""
        assert ids, "a text has at least one token"
        known = 0
        if self._cache is not None and self.model.keeps_beginnings:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(self._ids, ids, strict=False))
            known = min(sum(1 for _ in same), len(ids) - 1)
        lm = self.model.causal_lm.eval()
        if 0 < known < len(self._ids):
            self._cache.crop(known - len(self._ids))  # from the end: a number below 0
        elif not known:
            self._cache = DynamicCache(config=lm.config)
        self._ids = []  # until it is read: an interrupt must not leave ids that the cache does not hold
        new = torch.tensor([list(ids[known:])], device=lm.device)
        logits = lm(new, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        self._ids = list(ids)
        self.tokens_read += len(ids) - known
        return logits.float()
