"""How the items of a catalogue are written for one backbone: as answers, and in prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.vision_language import vision_sequences
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError, ConfigError
from llmrec.items.forms import (
    Form,
    ItemSequences,
    ItemTokens,
    joined,
    or_else,
    semantic_id_tokens,
    soft_sequences,
    text_tokens,
    unique_id_tokens,
)
from llmrec.items.semantic_ids import SemanticIDs

SOFT_PROMPT = "soft_prompt"  # the vector tokens before every prompt
SOFT = "soft"  # the vector tokens that a semantic adapter makes, and the form that is written with them


def item_tokens_for(
    form: Form,
    backbone: Backbone,
    catalog: Catalog,
    semantic_ids: SemanticIDs | None,
    *,
    max_title_tokens: int,
) -> ItemTokens:
    """How every item of the catalogue is written as an answer of this backbone.

    Raises:
        ArtifactError: semantic ids are missing or are those of another catalogue.
    """
    if form in ("unique_id", SOFT):
        return unique_id_tokens(catalog.num_items, backbone.base_vocab_size, form=form)
    if form == "text":
        return text_tokens(
            catalog.titles,
            backbone.tokenizer,
            backbone.base_vocab_size,
            item_ids=catalog.item_ids,
            max_tokens=max_title_tokens,
        )
    if semantic_ids is None or semantic_ids.num_items != catalog.num_items:
        found = "none" if semantic_ids is None else f"those of {semantic_ids.num_items} items"
        raise ArtifactError(
            f"expected semantic ids of {catalog.num_items} items, found {found}; run `llmrec tokenize` on the data."
        )
    return semantic_id_tokens(semantic_ids, backbone.base_vocab_size)


def item_prompt_sequences(
    forms: Sequence[str],
    answers: ItemTokens,
    backbone: Backbone,
    catalog: Catalog,
    *,
    max_title_tokens: int,
) -> ItemSequences | None:
    """The item forms in the prompt, one after another, for every item. None for no forms, which is the way items are answered.

    Item table and vector tokens have to be in the backbone. An item that none of the forms has anything for is called by its title.

    Raises:
        ConfigError: a form that this backbone has no tokens for.
    """
    if not forms:
        return None
    parts = []
    for form in forms:
        if form == "text":
            parts.append(_titles(answers, backbone, catalog, max_title_tokens))
        elif form == SOFT and SOFT in backbone.vector_tokens:
            per_item = backbone.vector_tokens[SOFT].num_query_tokens
            parts.append(soft_sequences(catalog.num_items, per_item, backbone.first_vector_id(SOFT)))
        elif form == IMAGES and IMAGES in backbone.vector_tokens:
            parts.append(vision_sequences(backbone))
        elif form == answers.form and form != SOFT:
            parts.append(answers.prompt_sequences)
        else:
            raise ConfigError(
                f"the item form in the prompt cannot be '{form}': items are answered by '{answers.form}', and next to that form "
                "there are text, with features soft, and with a vision-language model image."
            )
    prompt_sequences = joined(parts)
    if prompt_sequences.lengths.min(initial=1) == 0:  # images alone: an item without one is called by its title
        prompt_sequences = or_else(prompt_sequences, _titles(answers, backbone, catalog, max_title_tokens))
    return prompt_sequences


def _titles(answers: ItemTokens, backbone: Backbone, catalog: Catalog, max_title_tokens: int) -> ItemSequences:
    if answers.form == "text":
        return answers.prompt_sequences
    return item_tokens_for("text", backbone, catalog, None, max_title_tokens=max_title_tokens).prompt_sequences


def soft_prompt_ids(backbone: Backbone) -> np.ndarray | None:
    """int32 (n,): the ids of the backbone's soft prompt, None where it has none. The item table has to be there."""
    if SOFT_PROMPT not in backbone.vector_tokens:
        return None
    first = backbone.first_vector_id(SOFT_PROMPT)
    return np.arange(first, first + backbone.vector_tokens[SOFT_PROMPT].num_tokens, dtype=np.int32)
