"""Which language model is asked as it is, and how; the only place of these defaults."""

from __future__ import annotations

from pydantic import Field

from llmrec.config import Seed
from llmrec.text_models.settings import TextModelSettings


class AskedSettings(TextModelSettings):
    """A language model that was never trained here, spelt as for `llmrec enrich`, and how it is asked for recommendations."""

    prompt: str | None = None  # a shipped prompt or a .yaml file; by default the task's chat, or its plain twin
    max_history: int = Field(20, ge=1)  # items, the latest
    max_title_tokens: int = Field(32, ge=2)  # longer titles are cut, by the model's own tokenizer
    max_tokens: int = Field(4096, ge=1)  # of a prompt and its answer, examples included; histories are cut to it
    shots: int = Field(0, ge=0, le=64)  # solved examples before each question, from users who are trained on
    seed: Seed = 0  # of the choice of those examples
