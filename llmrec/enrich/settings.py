"""What an enrichment is asked to do; the only place of its defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmrec.config import Seed
from llmrec.text_models.settings import TextModelSettings


class EnrichSettings(TextModelSettings):
    """Which model is asked what about whom, how it decodes, and how much of it at most."""

    about: Literal["items", "users"] = "items"
    prompt: str | None = (
        None  # a shipped prompt or a .yaml file; by default enrich/item_knowledge or enrich/user_profile
    )
    max_history: int = Field(30, ge=1)  # of a user's training events, the latest
    fit: Literal["train", "train+valid"] = "train"  # of the leave-one-out split, what a user's profile may know
    max_field_characters: int = Field(1_000, ge=1)  # of one value in a prompt

    max_new_tokens: int = Field(64, ge=1)
    temperature: float = Field(0.0, ge=0, le=5)  # 0: greedy
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.1, ge=1, le=3)  # on what the answer has said; a server is not told of it
    seed: Seed = 0
    retries: int = Field(2, ge=0, le=20)  # of a text that is no good, sampled with other seeds
    retry_temperature: float = Field(0.8, gt=0, le=5)
    retry_top_p: float = Field(0.95, gt=0, le=1)
    keep_flagged: bool = False  # texts that stay no good are kept in GeneratedTexts.texts

    max_items: int | None = Field(None, ge=1)  # the first so many items or users
    max_tokens: int | None = Field(None, ge=1)  # read and written, in all
