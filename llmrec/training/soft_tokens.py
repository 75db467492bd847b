"""What recipes share about soft tokens: which features the items have, and the adapter over them."""

from __future__ import annotations

from pydantic import Field

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.text_encoder import DEFAULT_ENCODER, encode_texts
from llmrec.config import Settings
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.nn.semantic_adapter import AdapterKind, SemanticAdapter
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.recommenders.baselines import EaseR
from llmrec.recommenders.factor_cache import cached_factors
from llmrec.recommenders.vector_artifact import soft_tokens


class AdapterSettings(Settings):
    """The semantic adapter; see `llmrec.nn.semantic_adapter.SemanticAdapter`."""

    kind: AdapterKind = "qformer"
    num_query_tokens: int = Field(1, ge=1)
    hidden_dim: int = Field(256, ge=1)
    num_layers: int = Field(1, ge=1)
    num_heads: int = Field(4, ge=1)
    num_experts: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class SoftTokenSettings(Settings):
    """Which features of the items become soft tokens, and how."""

    # "text", "image", "collaborative" (item factors of the training events), or names of the data folder's own features
    features: tuple[str, ...] = ("text",)
    text_fields: tuple[str, ...] = ()  # columns of the catalogue that "text" encodes; (): all texts
    collaborative_dim: int = Field(64, ge=1)
    adapter: AdapterSettings = AdapterSettings()


def soft_features(settings: SoftTokenSettings, data: Data, split: Split) -> Features:
    """The features that `settings.features` names, each at its own width."""
    features = Features(data.catalog.num_items)
    for name in settings.features:
        if name == "text":
            features.add(name, encode_texts(data.catalog.texts(settings.text_fields or None), DEFAULT_ENCODER))
        elif name == "collaborative":
            features.add(name, cached_factors(EaseR(), split.train, settings.collaborative_dim))
        else:
            features.add(name, data.features[name], data.features.present[name])
    return features


def make_soft_tokens(settings: SoftTokenSettings, features: Features, backbone: Backbone, *, seed: int) -> SoftTokens:
    """Fresh soft tokens of these features, as long as the backbone's own inputs."""
    adapter = SemanticAdapter(
        {name: features[name].shape[1] for name in settings.features},
        backbone.dim,
        norm=backbone.embedding_norm * backbone.embedding_scale,
        seed=seed,
        **settings.adapter.model_dump(),
    )
    tokens = soft_tokens(features, adapter)
    adapter.fit_scaling(tokens.features_of(slice(None)), tokens.present)
    return tokens
