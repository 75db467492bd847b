"""Item embeddings that are trained: what they start from, and where those of items without a training event lie afterwards."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from llmrec.backbones.causal_lm import Backbone
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.encoders.text import encode_texts
from llmrec.items.forms import ItemTokens
from llmrec.items.row_features import nearest_seen, row_features
from llmrec.nn.item_table import ItemTable
from llmrec.recommenders.language_model import LanguageModel
from llmrec.training.item_features import check_collaborative_dim
from llmrec.training.prompts import TitleSettings


class ItemTableSettings(TitleSettings):
    """Embeddings of item tokens."""

    start: Literal["text", "collaborative", "random"] = "text"  # what item embeddings are initialised from
    collaborative_dim: int = Field(256, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)  # of item embeddings as inputs
    # unique ids: items without a training event get the mean embedding of their nearest trained items by text
    place_unseen: bool = True


def make_item_table(
    settings: ItemTableSettings, data: Data, train: Interactions, backbone: Backbone, tokens: ItemTokens, *, seed: int
) -> ItemTable:
    """The item table at its start: random, or from features of the items that are written with each token."""
    norm = backbone.embedding_norm
    table = ItemTable(tokens.row_levels, backbone.dim, norm=norm, dropout=settings.dropout, seed=seed)
    if settings.start != "random":
        table.initialise(row_features(tokens, _start_features(settings, data, train)), norm=norm, seed=seed)
    return table


def _start_features(settings: ItemTableSettings, data: Data, train: Interactions) -> np.ndarray:
    """float32 (num_items, F): item texts through a sentence encoder, or low-rank EASE-R embeddings of the training events."""
    if settings.start == "text":
        return encode_texts(data.catalog.texts())
    dim = settings.collaborative_dim
    check_collaborative_dim("items.collaborative_dim", dim, data.catalog.num_items)
    return collaborative_embeddings("ease_r", train, dim)[0]


def place_unseen(model: LanguageModel, data: Data, seen: np.ndarray) -> int:
    """After training: embeddings of items that were not trained on, from trained ones of items with similar texts. Returns how many.

    seen: bool (num_items,), the items that stood in training examples. Unique ids alone: codes are shared by items.
    """
    if model.item_tokens.form != "unique_id" or seen.all():
        return 0
    unseen, neighbours = nearest_seen(encode_texts(data.catalog.texts(["title"])), seen)
    model.backbone.item_table.place(unseen, neighbours)
    return len(unseen)
