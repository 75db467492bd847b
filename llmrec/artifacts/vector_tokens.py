"""The vector tokens of a run folder: what makes them, in safe formats.

| file | what |
|---|---|
| vector_tokens.json | in the order of their ids: the adapter's settings and what made the features, the soft prompt's length |
| soft.safetensors | the adapter's weights and the scaling of its inputs |
| features/NAME.safetensors | the items' features it reads |
| soft_prompt.safetensors | the soft prompt |
| image.safetensors | the images as the model's own vision tokens |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.model_files import loading, shapes_in
from llmrec.backbones.vision_language import load_vision_tokens, save_vision_tokens
from llmrec.data.features import Features
from llmrec.errors import ArtifactError
from llmrec.files import atomic_folder, read_json, write_json
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.recommenders.item_tokens import SOFT

ITEM_VECTORS = "item_vectors"  # the folder inside an adapter's model folder
VECTOR_TOKENS = "vector_tokens"  # the folder inside the model folder
CARD, FEATURES = "vector_tokens.json", "features"
MANIFEST, MODEL_FOLDER = "manifest.json", "model"  # of every run: the folder inside it, and what is written there last
ADAPTER_KIND, ADAPTER_VERSION = "semantic_adapter", 1


def soft_tokens(features: Features, adapter: SemanticAdapter, sources: Mapping[str, dict[str, Any]]) -> SoftTokens:
    """The soft tokens an adapter makes of these features, which `sources` made. Raises DataError for a name that is missing."""
    names = adapter.feature_names
    return SoftTokens(
        adapter,
        {name: torch.from_numpy(features[name]) for name in names},
        {name: torch.from_numpy(features.present[name]) for name in names},
        sources,
    )


def save_vector_tokens(folder: Path, backbone: Backbone) -> None:
    """Writes what the backbone's vector tokens are made of; nothing where it has none."""
    if not backbone.vector_tokens.num_tokens:
        return
    folder.mkdir(parents=True)
    card: dict[str, Any] = {}
    for name, source in backbone.vector_tokens.sources.items():
        if name == SOFT:
            card[name] = {"adapter": source.adapter.settings, "sources": source.sources}
            _save_soft_tokens(folder, source)
        elif name == IMAGES:
            card[name] = {"num_tokens": source.num_tokens}
            save_vision_tokens(source, folder / f"{name}.safetensors")
        else:
            card[name] = {"num_tokens": source.num_tokens}
            save_file({"weight": source.weight.detach().contiguous()}, folder / f"{name}.safetensors")
    write_json(folder / CARD, card)


def load_vector_tokens(folder: Path, backbone: Backbone, num_items: int) -> None:
    """Puts what `save_vector_tokens` wrote into the backbone; nothing where nothing was written.

    Raises:
        ArtifactError: adapter and features do not belong together, or to this backbone.
    """
    if not folder.is_dir():
        return
    for name, settings in read_json(folder / CARD, "description of vector tokens", ArtifactError).items():
        if name == SOFT:
            _check_adapter(settings["adapter"], folder / "soft.safetensors")
            adapter = SemanticAdapter(**settings["adapter"])
            adapter.load_state_dict(load_file(folder / "soft.safetensors"))
            features = Features.load(folder / FEATURES, num_items)
            source, dim = soft_tokens(features, adapter, settings["sources"]), adapter.dim
        elif name == IMAGES:
            source, dim = load_vision_tokens(folder / f"{name}.safetensors", backbone, num_items), backbone.dim
        else:
            words = load_file(folder / f"{name}.safetensors")["weight"]
            if settings["num_tokens"] != len(words):
                raise ArtifactError(
                    f"'{folder / CARD}' says {settings['num_tokens']} tokens of {name}, but the file has {len(words)}."
                )
            source, dim = SoftPrompt(settings["num_tokens"], words.shape[1], norm=1.0, words=words), words.shape[1]
        if dim != backbone.dim:
            raise ArtifactError(f"the vector tokens in '{folder}' are {dim} wide, but the model is {backbone.dim}.")
        backbone.add_vectors(name, source)


def _check_adapter(settings: dict[str, Any], path: Path) -> None:
    """Refuses settings that the weights in the file are not of, before an adapter of such a size is made. Raises ArtifactError."""
    with loading(f"the weights of a semantic adapter in '{path}'", error=ArtifactError):
        shapes = shapes_in(path)
        widths = [shapes[f"projections.{place}.weight"] for place in range(len(settings["feature_dims"]))]
        hidden, tokens = settings["hidden_dim"], (settings["num_query_tokens"], settings["dim"])
        wanted = [(hidden, width) for width in settings["feature_dims"].values()]
        many = settings["num_layers"] > len(shapes) or settings["num_experts"] > len(shapes)
    if many or shapes["empty"] != tokens or widths != wanted:
        raise ArtifactError(
            f"the semantic adapter in '{path}' does not have the sizes that {CARD} says; put the originals back, or train again."
        )


def soft_sources(folder: Path) -> dict[str, dict[str, Any]]:
    """What the features of a run's soft tokens were made from, in their order; none for a run without. folder: `vector_tokens/`."""
    if not folder.is_dir():
        return {}
    card = read_json(folder / CARD, "description of vector tokens", ArtifactError)
    if SOFT in card and "sources" not in card[SOFT]:
        raise ArtifactError(f"'{folder / CARD}' does not say what the features were made from; train the run again.")
    return card[SOFT]["sources"] if SOFT in card else {}


def _save_soft_tokens(folder: Path, soft: SoftTokens) -> None:
    weights = {name: tensor.contiguous() for name, tensor in soft.adapter.state_dict().items()}
    save_file(weights, folder / "soft.safetensors")
    features = Features(soft.num_items)
    for name, vectors in soft.features_of(slice(None)).items():
        features.add(name, vectors.cpu().numpy(), soft.present[:, soft.names.index(name)].cpu().numpy())
    features.save(folder / FEATURES)


def save_adapter_run(folder: Path, backbone: Backbone, vectors: Features, card: dict[str, Any]) -> None:
    """A semantic adapter that was trained by itself: `vector_tokens/`, and `item_vectors/` that serve without any language model.

    vectors: by name, what the adapter makes of every item. card: JSON facts of the training. The folder is written whole or not at all.
    """
    with atomic_folder(folder, known_by=MANIFEST) as temporary:
        save_vector_tokens(temporary / VECTOR_TOKENS, backbone)
        vectors.save(temporary / ITEM_VECTORS)
        write_json(temporary / MANIFEST, {"format_version": ADAPTER_VERSION, "kind": ADAPTER_KIND, "protocol": card})


def load_item_vectors(run: Path, num_items: int, *, made_from: str | None = None) -> Features:
    """What `save_adapter_run` kept of every item, of the run folder `run`.

    made_from: content hash of the data they have to be made from. Raises ArtifactError where there are none, or of other data.
    """
    folder = run / MODEL_FOLDER
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"expected a finished semantic adapter in '{folder}'; train one: recipes/ease.py stage=adapter."
        )
    manifest = read_json(folder / MANIFEST, "manifest of a semantic adapter", ArtifactError)
    if manifest.get("kind") != ADAPTER_KIND or manifest.get("format_version") != ADAPTER_VERSION:
        raise ArtifactError(
            f"'{folder}' holds no semantic adapter of format version {ADAPTER_VERSION}; train one anew."
        )
    if made_from is not None and manifest.get("protocol", {}).get("content_hash") != made_from:
        raise ArtifactError(
            f"the adapter in '{folder}' was trained on other data than these: the data folder was prepared again since, or is another. "
            "Restore it, or train the adapter anew (recipes/ease.py stage=adapter --fresh)."
        )
    return Features.load(folder / ITEM_VECTORS, num_items)
