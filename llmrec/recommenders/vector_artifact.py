"""The vector tokens of a run folder: what makes them, in safe formats.

| file | what |
|---|---|
| vector_tokens.json | for soft tokens: the semantic adapter's settings |
| soft.safetensors | its weights and the scaling of its inputs |
| features/NAME.safetensors | the items' features it reads |
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from llmrec.backbones.causal_lm import Backbone
from llmrec.data.features import Features
from llmrec.errors import ArtifactError
from llmrec.files import read_json, write_json
from llmrec.nn.semantic_adapter import SemanticAdapter
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.recommenders.item_writing import SOFT

CARD = "vector_tokens.json"


def soft_tokens(features: Features, adapter: SemanticAdapter) -> SoftTokens:
    """The soft tokens an adapter makes of these features. Raises DataError for a name that is missing."""
    names = adapter.feature_names
    return SoftTokens(
        adapter,
        {name: torch.from_numpy(features[name]) for name in names},
        {name: torch.from_numpy(features.present[name]) for name in names},
    )


def save_vector_tokens(folder: Path, backbone: Backbone) -> None:
    """Writes what the backbone's vector tokens are made of; nothing where it has none."""
    if SOFT not in backbone.vector_tokens:
        return
    soft: SoftTokens = backbone.vector_tokens[SOFT]
    folder.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in soft.adapter.state_dict().items()}, folder / "soft.safetensors"
    )
    features = Features(soft.num_items)
    for name, vectors in soft.features_of(slice(None)).items():
        features.add(name, vectors.cpu().numpy(), soft.present[:, soft.names.index(name)].cpu().numpy())
    features.save(folder / "features")
    write_json(folder / CARD, {SOFT: soft.adapter.settings})


def load_vector_tokens(folder: Path, backbone: Backbone, num_items: int) -> None:
    """Puts what `save_vector_tokens` wrote into the backbone; nothing where nothing was written.

    Raises:
        ArtifactError: adapter and features do not belong together.
    """
    if not folder.is_dir():
        return
    settings = read_json(folder / CARD, "description of vector tokens", ArtifactError)[SOFT]
    if settings["dim"] != backbone.dim:
        raise ArtifactError(
            f"the soft tokens in '{folder}' are {settings['dim']} wide, but the model is {backbone.dim}."
        )
    adapter = SemanticAdapter(**settings)
    adapter.load_state_dict(load_file(folder / "soft.safetensors"))
    backbone.add_vectors(SOFT, soft_tokens(Features.load(folder / "features", num_items), adapter))
