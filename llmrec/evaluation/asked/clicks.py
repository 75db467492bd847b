"""Clicks by a language model as it is: asked in words whether a user would choose an item, without a step of training here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.evaluation.asked.local import (
    load_untrained,
    prompt_for,
    title_encoder,
    untrained_model,
)
from llmrec.evaluation.asked.server import BY_WORDS, PROMPTS, ServerClicks
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.asked.shots import click_question_card, click_shots, shot_rows, shots_card
from llmrec.prompting.answer_words import answer_words
from llmrec.prompting.templates import CLICK
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.text_models.open_model import check_server, open_text_model

if TYPE_CHECKING:
    from llmrec.text_models.vllm import VllmModel


class AskedClicks(PointwiseRecommender):
    """P(yes) is the softmax over the logits of the two answer words after the prompt, as of trained models."""

    def __init__(self, settings: AskedSettings, data: Data, split: ClickSplit) -> None:
        """Loads the model. Raises ModelError where its name leads to none, ConfigError for a prompt that asks something else."""
        backbone = load_untrained(settings)
        prompt = prompt_for(settings, CLICK, PROMPTS, is_chat=backbone.tokenizer.chat_template is not None)
        examples = shot_rows(split, settings.shots, settings.seed)
        shots = click_shots(examples, prompt)
        super().__init__(untrained_model(backbone, data.catalog, prompt, settings, shots))
        self._card = {
            "provider": "transformers",
            "max_title_tokens": settings.max_title_tokens,
            **shots_card(examples, data.catalog, settings.seed),
            "scored_by": BY_WORDS,
        }

    @property
    def card(self) -> dict[str, Any]:
        """Model, prompt, and how the numbers came about."""
        return {**super().card, **self._card}


class VllmClicks:
    """The same prompts, token for token, and the same two words, read by vLLM's engine."""

    name = "llm"

    def __init__(self, settings: AskedSettings, data: Data, split: ClickSplit, model: VllmModel) -> None:
        """model: loaded. Raises ConfigError for a prompt that asks something else."""
        prompt = prompt_for(settings, CLICK, PROMPTS, is_chat=model.is_chat)
        examples = shot_rows(split, settings.shots, settings.seed)
        self.model = model
        self.encoder = title_encoder(
            model.prompts.tokenizer, data.catalog, prompt, settings, click_shots(examples, prompt),
            max_positions=model.max_tokens,
        )  # fmt: skip
        self._words = answer_words(prompt, model.prompts.tokenizer)
        self.card: dict[str, Any] = {
            "provider": "vllm",
            "backbone": model.identity,
            "layers": model.card["layers"],
            "dtype": model.identity["dtype"],
            **click_question_card(settings, prompt, examples, data.catalog),
            "scored_by": BY_WORDS,
        }

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float32 (N,)."""
        prompts = [
            self.encoder.encode(history[history != PADDING], candidate=int(item)).tolist()
            for history, item in zip(rows.histories, rows.items, strict=True)
        ]
        told = self.model.next_log_probs(prompts, [self._words.liked, self._words.disliked])  # (N, 2)
        return (1 / (1 + np.exp(told[:, 1] - told[:, 0]))).astype(np.float32)


def open_asked_clicks(settings: AskedSettings, data: Data, split: ClickSplit) -> ClickScorer:
    """The model that the settings name, asked about rows of this split; its train examples alone are shown to it as examples.

    `llmrec eval --model` makes the settings of its options, opens the scorer and hands it to `ask_clicks`. A server is asked one
    question here, for what it tells; so its card is whole before the first row.
    Raises ConfigError for settings that contradict each other, ModelError where the name leads to no language model, ProviderError
    where a server does not answer.
    """
    check_server(settings)
    if settings.provider == "transformers":
        return AskedClicks(settings, data, split)
    model = open_text_model(settings)
    if settings.provider == "vllm":
        return VllmClicks(settings, data, split, model)
    scorer = ServerClicks(settings, data, split, model)
    scorer.find_out(split.test)
    return scorer
