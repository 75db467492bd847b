"""A recommender whose language model is asked about one item at a time: the score is the probability of the answer "liked".

Letters: U requests, C candidates, P prompts, D width.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.packed_attention import PackedLayout
from llmrec.backbones.packing_check import check_packing
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.engines.torch.engine import TorchEngine
from llmrec.errors import ModelError
from llmrec.prompting.answer_words import AnswerWords, answer_words
from llmrec.prompting.packing import packed
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import DenseRecommender, Requests, candidate_mask

PROMPTS_A_PACK = 64  # more are no faster on two cores, and take more memory


def liked_logits(backbone: Backbone, hidden: torch.Tensor, words: AnswerWords) -> torch.Tensor:
    """The logits of the two answer words: hidden (P, D) -> float32 (P, 2), liked in column 0."""
    ascending = torch.tensor(sorted((words.liked, words.disliked)), device=hidden.device)
    logits = backbone.token_logits(hidden, ascending, exact=True)
    return logits if words.liked < words.disliked else logits.flip(1)


class PointwiseRecommender(DenseRecommender):
    """Scores are P(liked) in [0, 1], a softmax over the two answer words after the prompt of a history and a candidate.

    Made for candidates that are given. The whole catalogue is scored just as exactly, one prompt an item; what the prompts of a request
    begin with, its history, is read once.
    """

    def __init__(self, model: LanguageModel, *, name: str = "llm"):
        """Raises ConfigError for a model whose prompt has no two answers."""
        self.model = model
        self.engine = TorchEngine(model.backbone, model.prompt_cache)
        self.name = name
        self.num_items = model.item_tokens.num_items
        self.words = answer_words(model.encoder.prompt, model.backbone.tokenizer)

    @property
    def card(self) -> dict:
        """Facts for the report."""
        return {
            **self.model.card,
            "decoding": "probability of one of two answers",
            "answers": self.model.encoder.prompt.answers,
        }

    def scores(self, requests: Requests) -> np.ndarray:
        """P(liked) of every item: float32 (U, I)."""
        return self.score(requests, np.arange(self.num_items))

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """P(liked) of the candidates, int (U, C) or (C,) -> float32 (U, C)."""
        candidates = np.asarray(candidates, dtype=np.int64)
        candidate_mask(candidates.ravel(), self.num_items)  # refuses items outside of the catalogue
        wanted = np.broadcast_to(candidates, (len(requests), candidates.shape[-1]))
        instructions = requests.instructions or [None] * len(requests)
        scores = np.empty(wanted.shape, dtype=np.float32)
        prompts: list[np.ndarray] = []
        for row, instruction in enumerate(instructions):
            history = requests.histories[row]
            prompts += [
                self.model.encoder.encode(history, instruction, candidate=item) for item in wanted[row].tolist()
            ]
            if wanted.shape[1] != 1:  # together with their like: all begin with the same history
                scores[row], prompts = self._liked(prompts), []
        return scores if wanted.shape[1] != 1 else self._liked(prompts)[:, None]

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float32 (N,). What rows of one history have in common is read once, where the model can be packed."""
        encode = self.model.encoder.encode
        histories = (history[history != PADDING] for history in rows.histories)
        prompts = [encode(known, candidate=item) for known, item in zip(histories, rows.items.tolist(), strict=True)]
        if not self._can_pack:
            return self._liked(prompts)
        liked = np.empty(len(prompts), dtype=np.float32)
        order = sorted(range(len(prompts)), key=lambda row: prompts[row].astype(">u4").tobytes())
        for start in range(0, len(order), PROMPTS_A_PACK):
            together = order[start : start + PROMPTS_A_PACK]
            liked[together] = self._liked_packed([prompts[row] for row in together])
        return liked

    @functools.cached_property
    def _can_pack(self) -> bool:
        try:
            check_packing(self.model.backbone)
        except ModelError:
            return False
        return True

    @torch.no_grad()
    def _liked_packed(self, prompts: list[np.ndarray]) -> np.ndarray:
        """float32 (P,), of prompts that share beginnings: see `llmrec.prompting.packing`."""
        backbone = self.model.backbone.eval()
        batch, indices = packed(prompts)
        batch = {name: values.to(backbone.device) for name, values in batch.items()}
        layout = PackedLayout(batch["seen_until"], batch["position_ids"])
        hidden = backbone.hidden_states(
            batch["input_ids"], position_ids=batch["position_ids"], packed_layout=layout
        )  # (1, T, D)
        last = torch.tensor([int(index[-1]) for index in indices], device=hidden.device)
        return liked_logits(backbone, hidden[0, last], self.words).softmax(dim=1)[:, 0].cpu().numpy()

    @torch.no_grad()
    def _liked(self, prompts: list[np.ndarray]) -> np.ndarray:
        """float32 (P,)."""
        backbone = self.model.backbone.eval()
        liked = np.empty(len(prompts), dtype=np.float32)
        if self.engine.reads_packed:
            read = self.engine.packed_last_hidden(prompts)
        else:
            batches = self.engine.batches(prompts)
            read = ((rows, self.engine.last_hidden([prompts[row] for row in rows], alike=True)) for rows in batches)
        for rows, hidden in read:
            liked[rows] = liked_logits(backbone, hidden, self.words).softmax(dim=1)[:, 0].cpu().numpy()
        return liked
