"""What a run's manifest may say: kinds and bounds of every value that something is built from, checked before that.

`kind` says what ranks: a language model (runs before December 2026 say nothing), a network of item sequences, or a stack of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from llmrec.backbones.causal_lm import SoftmaxScope
from llmrec.backbones.decoder_layers import LayerPart
from llmrec.errors import ArtifactError
from llmrec.items.forms import Form, PromptForm

LANGUAGE_MODEL, SEQUENTIAL, STACKED = "language_model", "sequential", "stacked"
# What runs of each kind are, in a sentence.
IN_WORDS = {
    LANGUAGE_MODEL: "a language model", SEQUENTIAL: "a network of item sequences", STACKED: "a stack of several recommenders",
}  # fmt: skip
PartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]  # a folder's, see `files.check_name`
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]


class _Source(BaseModel):
    """See `ModelSource.card`."""

    name: str
    source: str
    revision: str


class _Asked(BaseModel):
    """How the backbone is found and cut."""

    name: str
    folder: str | None = None
    num_layers: Annotated[int, Field(ge=1, le=1000, strict=True)] | None


class _Prefix(BaseModel):
    num_tokens: Count


class _LayerAdapter(BaseModel, extra="forbid"):
    hidden_dim: Count
    after: Annotated[list[LayerPart], Field(min_length=1, max_length=2)]


class _Adapters(BaseModel, extra="forbid"):
    """What `save_adapters` returned."""

    lora: Literal[True] = True
    prefix: _Prefix | None = None
    layer_adapter: _LayerAdapter | None = None
    last_layers: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None


class LanguageModelManifest(BaseModel):
    """The keys that loading a language model's run reads; others are facts for people."""

    backbone: _Asked
    source: _Source
    full_fine_tuning: bool = Field(strict=True)
    adapters: _Adapters
    dtype: Literal["float32", "bfloat16", "float16"]
    quantize: Literal["nf4"] | None
    form: Form
    prompt_forms: Annotated[list[PromptForm], Field(max_length=5)]
    softmax_scope: SoftmaxScope
    prompt_hash: str
    max_history: Count
    history_step: Count = 1  # runs before it was a setting dropped one item at a time
    max_tokens: Count
    max_title_tokens: Count
    catalog_hash: str
    weights: dict[str, str] = Field({})  # SHA-256 of every file of weights; runs before November 2026 have none


class SequentialManifest(BaseModel):
    """The same of a network of item sequences. sources: what made each matrix of features, in their order; widths: their numbers."""

    network: Literal["sequential", "sasrec", "gru4rec", "bert4rec"]
    settings: dict[str, Any]
    facts: dict[str, Any]
    sources: dict[str, dict[str, Any]]
    widths: dict[str, Count]
    num_items: Annotated[int, Field(ge=1, strict=True)]
    catalog_hash: str
    weights: dict[str, str]


class StackedManifest(BaseModel):
    """The same of a stack. stack_weights: see `StackWeights.to_json`."""

    parts: Annotated[list[PartName], Field(min_length=1)]
    stack_weights: dict[str, Any]
    num_items: Annotated[int, Field(ge=1, strict=True)]
    catalog_hash: str
    weights: dict[str, str]


# The format version that is written, and what it has to say.
FORMATS: dict[str, tuple[int, type[BaseModel]]] = {
    LANGUAGE_MODEL: (3, LanguageModelManifest),
    SEQUENTIAL: (1, SequentialManifest),
    STACKED: (1, StackedManifest),
}


def adaptation_of(full_fine_tuning: bool, adapters: Mapping[str, Any]) -> str:
    """How the language model was trained, as papers say it. adapters: what `save_adapters` returned."""
    if full_fine_tuning:
        return "full fine-tuning"
    names = {"lora": "LoRA", "layer_adapter": "bottleneck adapters", "prefix": "prefix tuning"}
    parts = [name for key, name in names.items() if adapters.get(key)]
    if count := adapters.get("last_layers"):
        parts.append(f"last {count} layers")
    return " + ".join(parts) or "frozen"


def from_version_2(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of November 2026 as one of today: the same facts, some under other names."""
    names = {"score_rule": "softmax_scope", "mention_forms": "prompt_forms", "trained_whole": "full_fine_tuning"}
    renamed = {names.get(key, key): value for key, value in manifest.items()}
    if renamed.get("softmax_scope") == "full":
        renamed["softmax_scope"] = "vocabulary"
    return {**renamed, "format_version": 3}


def with_split_of_today(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the split's numbers of test instances under the name of today; until December 2026 it was `cases`."""
    protocol = manifest["protocol"]
    split = protocol.get("split")
    if isinstance(split, dict) and "cases" in split:
        split = {"instances" if key == "cases" else key: value for key, value in split.items()}
        manifest = {**manifest, "protocol": {**protocol, "split": split}}
    return manifest


def check_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Raises ArtifactError for a manifest that lacks a key, or has a value that no run of its kind has."""
    _, model = FORMATS[manifest["kind"]]
    try:
        model.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])[:100]
        if first["type"] == "missing":
            raise ArtifactError(
                f"the run in '{folder}' is damaged or was changed by hand: its manifest has no {key}. Put the original back, or "
                "train again."
            ) from error
        known = first["msg"].removeprefix("Input should be ")
        if first["type"] == "literal_error":
            known = known.replace("'", "").replace(" or ", ", ")
        raise ArtifactError(
            f"the manifest in '{folder}' has the {key} {str(first['input'])[:60]!r}, but this llmrec knows {known}. Use the llmrec "
            "that wrote the run; if that is this one, the run is damaged or was changed by hand: train it again."
        ) from error
