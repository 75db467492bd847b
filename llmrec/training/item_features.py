"""What recipes share about vector tokens: which features the items have, the adapter over them, the soft prompt."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from llmrec.artifacts.vector_tokens import soft_tokens
from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.trained_parts import SoftPromptSettings
from llmrec.backbones.vision_language import MAX_TOKENS, OnBroken, encode_vision_tokens
from llmrec.baselines.item_embeddings import CollaborativeKind, collaborative_embeddings
from llmrec.config import Settings
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.images import image_paths
from llmrec.data.interactions import Interactions
from llmrec.encoders.item_features import (
    IMAGE,
    TEXT,
    ImageSource,
    OnMissing,
    TextSource,
    item_features,
    items_without_features,
)
from llmrec.encoders.tf_idf import TfIdf
from llmrec.errors import ConfigError
from llmrec.nn.adapters.semantic import AdapterKind, SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.recommenders.item_tokens import SOFT


class AdapterSettings(Settings):
    """The semantic adapter; see `llmrec.nn.adapters.semantic.SemanticAdapter`."""

    kind: AdapterKind = "qformer"
    num_query_tokens: int = Field(1, ge=1)
    hidden_dim: int = Field(256, ge=1)
    num_layers: int = Field(1, ge=1)
    num_heads: int = Field(4, ge=1)
    num_experts: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class FeatureSettings(Settings):
    """Which features of the items a model reads, and what makes them."""

    # "text", "image", "collaborative" (item embeddings learned from the training events), or names of the data folder's own features
    features: tuple[str, ...] = ("text",)
    text: TextSource = TextSource()
    image: ImageSource = ImageSource()
    collaborative: CollaborativeKind = "ease_r"
    collaborative_dim: int = Field(64, ge=1)


class SoftTokenSettings(FeatureSettings):
    """Which features of the items become soft tokens, and how."""

    on_missing: OnMissing = "learned"  # items without any of the features: tokens of their own, or an error
    adapter: AdapterSettings = AdapterSettings()


class ImageSettings(Settings):
    """How images stand in prompts, where items.prompt_form says image."""

    max_tokens: int = Field(MAX_TOKENS, ge=1)  # vision tokens of an image at most: its resolution is capped by them
    on_broken: OnBroken = "skip"


def add_images(settings: ImageSettings, data: Data, backbone: Backbone) -> None:
    """Puts the vision tokens of the items' images behind the backbone's other tokens."""
    paths = image_paths(data.catalog, data.folder)
    images = encode_vision_tokens(backbone, paths, item_ids=data.catalog.item_ids, **settings.model_dump())
    backbone.add_vectors(IMAGES, images)


def soft_features(settings: SoftTokenSettings, data: Data, train: Interactions | None, *, seed: int) -> Features:
    """See `features_of`; items without any are counted, or refused."""
    features = features_of(settings, data, train, seed=seed, prefix="soft.")
    items_without_features(features, data.catalog, settings.on_missing)
    return features


def features_of(
    settings: FeatureSettings,
    data: Data,
    train: Interactions | None,
    *,
    seed: int,
    prefix: str = "",
    tf_idf: TfIdf | None = None,
) -> Features:
    """The features that `settings.features` names, each at its own width; see `item_features`.

    train: the events that "collaborative" may be fitted to; None where it is not among the features. seed: of what it samples. prefix:
    of the settings' names on a command line.
    """
    extra = Features(data.catalog.num_items)
    if "collaborative" in settings.features:
        assert train is not None, "collaborative features need the events that they may be fitted to"
        if settings.collaborative == "ease_r":
            check_collaborative_dim(f"{prefix}collaborative_dim", settings.collaborative_dim, data.catalog.num_items)
        vectors, present = collaborative_embeddings(
            settings.collaborative, train, settings.collaborative_dim, seed=seed
        )
        extra.add("collaborative", vectors, present)
    return item_features(settings.features, data, text=settings.text, image=settings.image, extra=extra, tf_idf=tf_idf)


def check_collaborative_dim(setting: str, dim: int, num_items: int) -> None:
    """Raises ConfigError where low-rank EASE-R embeddings cannot be as wide as `setting` says."""
    if dim > num_items:
        raise ConfigError(
            f"{setting} is {dim}, but {num_items} items have low-rank EASE-R embeddings of at most {num_items} dimensions; set "
            f"{setting}={num_items} or less."
        )


def feature_sources(settings: FeatureSettings) -> dict[str, dict[str, Any]]:
    """JSON facts of what makes each feature; a run keeps them for new items and other images (`recommenders.item_sources`)."""
    facts: dict[str, dict[str, Any]] = {
        TEXT: settings.text.model_dump(),
        IMAGE: settings.image.model_dump(),
        "collaborative": {"kind": settings.collaborative, "dim": settings.collaborative_dim},
    }
    return {name: facts.get(name, {"matrix": name}) for name in settings.features}


def make_soft_tokens(settings: SoftTokenSettings, features: Features, backbone: Backbone, *, seed: int) -> SoftTokens:
    """Fresh soft tokens of these features, as long as the backbone's own inputs."""
    adapter = SemanticAdapter(
        {name: features[name].shape[1] for name in settings.features},
        backbone.dim,
        norm=backbone.embedding_norm * backbone.embedding_scale,
        seed=seed,
        **settings.adapter.model_dump(),
    )
    tokens = soft_tokens(features, adapter, feature_sources(settings))
    adapter.fit_scaling(tokens.features_of(slice(None)), tokens.present)
    return tokens


def add_soft_tokens(
    settings: SoftTokenSettings, data: Data, train: Interactions, backbone: Backbone, *, seed: int
) -> None:
    """Puts fresh soft tokens of the items' features behind the backbone's other tokens."""
    features = soft_features(settings, data, train, seed=seed)
    backbone.add_vectors(SOFT, make_soft_tokens(settings, features, backbone, seed=seed))


def make_soft_prompt(settings: SoftPromptSettings, backbone: Backbone, *, seed: int) -> SoftPrompt:
    """A fresh soft prompt, from the words of its text where it has one. Raises ConfigError for a text without words."""
    words = None
    if settings.text is not None:
        ids = backbone.tokenizer(settings.text, add_special_tokens=False).input_ids
        if not ids:
            raise ConfigError("soft_prompt.text has no words; give it some, or leave it out for random vectors.")
        words = backbone.embed(torch.tensor([ids], device=backbone.device))[0]
    norm = backbone.embedding_norm * backbone.embedding_scale
    return SoftPrompt(settings.num_tokens, backbone.dim, norm=norm, words=words, dropout=settings.dropout, seed=seed)
