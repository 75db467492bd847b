"""How a recipe's prompts are made: their settings, and the encoder that writes histories as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmrec.backbones.causal_lm import Backbone
from llmrec.config import Settings
from llmrec.data.catalog import Catalog
from llmrec.errors import ConfigError
from llmrec.items.forms import ItemTokens
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.item_tokens import item_prompt_sequences, soft_prompt_ids
from llmrec.training.backbones import check_positions


class PromptSettings(Settings):
    """How the model is asked."""

    name: str = "next_item/bare"  # a shipped prompt, or the path of one
    max_history: int = Field(50, ge=1)  # items
    # items that a full history drops at once: so many events share its beginning, read once
    history_step: int = Field(1, ge=1)
    max_tokens: int = Field(1024, ge=1)


def check_prompt(settings: PromptSettings, backbone: Backbone, *, objective: Literal["pointwise", "next_item"]) -> None:
    """Raises ConfigError where the model cannot read such prompts, or the objective has no use for them."""
    check_positions(backbone, settings.max_tokens)
    is_click = objective == "pointwise"
    if (load_prompt(settings.name).answers is not None) != is_click:
        wanted = "of the task click, such as click/chat" if is_click else "such as next_item/instruction"
        raise ConfigError(f"objective={objective} needs a prompt {wanted}, but prompt.name is {settings.name}.")
    if is_click and settings.history_step != 1:
        raise ConfigError(
            "prompt.history_step is for objective=next_item: click examples hold the latest prompt.max_history items, wherever they "
            "begin. Set prompt.history_step=1."
        )


class TitleSettings(Settings):
    """How items are written in words."""

    max_title_tokens: int = Field(32, ge=2)


def prompt_encoder(
    settings: PromptSettings,
    titles: TitleSettings,
    backbone: Backbone,
    catalog: Catalog,
    tokens: ItemTokens,
    forms: Sequence[str],
) -> PromptEncoder:
    """Prompts for this backbone, with all its vector tokens, that write items in these forms; no form: as answered."""
    return PromptEncoder(
        load_prompt(settings.name), backbone.tokenizer, tokens, catalog,
        max_history=settings.max_history, history_step=settings.history_step, max_tokens=settings.max_tokens,
        prompt_sequences=item_prompt_sequences(forms, tokens, backbone, catalog, max_title_tokens=titles.max_title_tokens),
        soft_prompt=soft_prompt_ids(backbone),
    )  # fmt: skip
