"""Clicks by a language model as it is: asked in words whether a user would choose an item, without a step of training here."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.evaluation.asked.local import load_untrained, prompt_for, untrained_model
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.asked.shots import click_shots, shot_rows, shots_card
from llmrec.prompting.templates import CLICK
from llmrec.recommenders.clicks import ClickScorer
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.text_models.open_model import check_server

PROMPTS = ("click/recbench", "click/recbench_plain")
BY_WORDS = "probability of the two answer words"  # how a row's number came about, on every card


class AskedClicks:
    """P(yes) is the softmax over the logits of the two answer words after the prompt, as of trained models."""

    name = "llm"

    def __init__(self, settings: AskedSettings, data: Data, split: ClickSplit) -> None:
        """Loads the model. Raises ModelError where its name leads to none, ConfigError for a prompt that asks something else."""
        backbone = load_untrained(settings)
        prompt = prompt_for(settings, CLICK, PROMPTS, is_chat=backbone.tokenizer.chat_template is not None)
        examples = shot_rows(split, settings.shots, settings.seed)
        shots = click_shots(examples, prompt)
        self.recommender = PointwiseRecommender(untrained_model(backbone, data.catalog, prompt, settings, shots))
        self._card = {
            "provider": "transformers",
            "max_title_tokens": settings.max_title_tokens,
            **shots_card(examples, data.catalog, settings.seed),
            "scored_by": BY_WORDS,
        }

    @property
    def card(self) -> dict[str, Any]:
        """Model, prompt, and how the numbers came about."""
        return {**self.recommender.card, **self._card}

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float32 (N,)."""
        return self.recommender.score_rows(rows)


def open_asked_clicks(settings: AskedSettings, data: Data, split: ClickSplit) -> ClickScorer:
    """The model that the settings name, asked about rows of this split; its train examples alone are shown to it as examples."""
    check_server(settings)
    return AskedClicks(settings, data, split)
