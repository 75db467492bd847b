"""How the items of a catalogue are written for one backbone: as answers, and in prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from llmrec.backbones.causal_lm import Backbone
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError, ConfigError
from llmrec.items.forms import (
    ItemSequences,
    ItemTokens,
    joined,
    semantic_id_tokens,
    soft_mentions,
    text_tokens,
    unique_id_tokens,
)
from llmrec.items.semantic_ids import SemanticIDs

SOFT_PROMPT = "soft_prompt"  # the vector tokens before every prompt
SOFT = "soft"  # the vector tokens that a semantic adapter makes, and the form that is written with them


def item_tokens_for(
    form: Literal["text", "unique_id", "semantic_id", "soft"],
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


def item_mentions(
    forms: Sequence[str],
    answers: ItemTokens,
    backbone: Backbone,
    catalog: Catalog,
    *,
    max_title_tokens: int,
) -> ItemSequences | None:
    """How prompts mention every item: the forms side by side. None for no forms, which is the way items are answered.

    Item table and vector tokens have to be in the backbone.

    Raises:
        ConfigError: a form that this backbone has no tokens for.
    """
    if not forms:
        return None
    parts = []
    for form in forms:
        if form == "text":
            texts = answers if answers.form == "text" else item_tokens_for(
                "text", backbone, catalog, None, max_title_tokens=max_title_tokens
            )  # fmt: skip
            parts.append(texts.mentions)
        elif form == SOFT and SOFT in backbone.vector_tokens:
            per_item = backbone.vector_tokens[SOFT].num_query_tokens
            parts.append(soft_mentions(catalog.num_items, per_item, backbone.first_vector_id(SOFT)))
        elif form == answers.form and form != SOFT:
            parts.append(answers.mentions)
        else:
            raise ConfigError(
                f"prompts of this run cannot mention items by '{form}': they are answered by '{answers.form}', and beside that form "
                "there are text and, with features, soft."
            )
    return joined(parts)


def soft_prompt_ids(backbone: Backbone) -> np.ndarray | None:
    """int32 (n,): the ids of the backbone's soft prompt, None where it has none. The item table has to be there."""
    if SOFT_PROMPT not in backbone.vector_tokens:
        return None
    first = backbone.first_vector_id(SOFT_PROMPT)
    return np.arange(first, first + backbone.vector_tokens[SOFT_PROMPT].num_tokens, dtype=np.int32)
