"""A language model on this machine as it is: its original weights, all its layers, items as their titles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.pretrained import load_backbone
from llmrec.data.catalog import Catalog
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.items.forms import text_tokens
from llmrec.prompting.encoder import PromptEncoder, Shot
from llmrec.prompting.templates import Prompt, load_prompt
from llmrec.recommenders.language_model import LanguageModel
from llmrec.text_models.prompt_tokens import max_positions
from llmrec.text_models.transformers import fast_dtype

ZERO_SHOT, FEW_SHOT = "zero-shot", "few-shot"  # what stands where a trained model's card names its adaptation


def load_untrained(settings: AskedSettings) -> Backbone:
    """All layers of the model that the settings name. Raises ModelError where the name leads to no language model."""
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = fast_dtype(device) if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return load_backbone(
        settings.model, weights=settings.weights, revision=settings.revision, dtype=dtype, device=device
    )


def prompt_for(settings: AskedSettings, task: str, defaults: tuple[str, str], *, is_chat: bool) -> Prompt:
    """The prompt of a task that the settings name, or of its two defaults (chat, plain) the one that the model can read.

    Raises ConfigError for a prompt of another task, or a chat where the model has no chat template.
    """
    prompt = load_prompt(settings.prompt or defaults[0 if is_chat else 1])
    if prompt.task != task:
        raise ConfigError(
            f"the prompt '{settings.prompt}' belongs to the task {prompt.task}, but what is asked here are prompts of the task {task}, "
            f"such as {defaults[0 if is_chat else 1]}."
        )
    if prompt.kind == "chat" and not is_chat:
        raise ConfigError(
            f"the prompt '{settings.prompt}' is a chat, but '{settings.model}' has no chat template. Take a plain prompt, such as "
            f"{defaults[1]}."
        )
    return prompt


def chat_for(settings: AskedSettings, task: str, defaults: tuple[str, str]) -> Prompt:
    """As `prompt_for`, for a server, which takes messages alone."""
    prompt = prompt_for(settings, task, defaults, is_chat=True)
    if prompt.kind != "chat":
        raise ConfigError(
            f"a server is asked in messages, but the prompt '{settings.prompt}' is no chat. Take a chat prompt, such as {defaults[0]}."
        )
    return prompt


def title_encoder(
    tokenizer: PreTrainedTokenizerBase,
    catalog: Catalog,
    prompt: Prompt,
    settings: AskedSettings,
    shots: Sequence[Shot] = (),
    *,
    max_positions: int,
) -> PromptEncoder:
    """Prompts whose items are titles of settings.max_title_tokens tokens at most."""
    tokens = text_tokens(
        catalog.titles, tokenizer, len(tokenizer), item_ids=catalog.item_ids, max_tokens=settings.max_title_tokens
    )
    return PromptEncoder(
        prompt, tokenizer, tokens, catalog,
        max_history=settings.max_history, max_tokens=min(settings.max_tokens, max_positions), shots=shots,
    )  # fmt: skip


def untrained_model(
    backbone: Backbone,
    catalog: Catalog,
    prompt: Prompt,
    settings: AskedSettings,
    shots: Sequence[Shot] = (),
    *,
    scope: SoftmaxScope = "trie",
) -> LanguageModel:
    """The model with its prompt, see `title_encoder`. scope: of answers that are titles."""
    encoder = title_encoder(
        backbone.tokenizer, catalog, prompt, settings, shots, max_positions=max_positions(backbone.config)
    )
    adaptation = FEW_SHOT if shots else ZERO_SHOT
    return LanguageModel(backbone, encoder.item_tokens, encoder, catalog, scope, adaptation=adaptation)
