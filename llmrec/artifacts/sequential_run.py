"""The model folder of a network of item sequences, in safe formats, written whole or not at all.

| file | what |
|---|---|
| manifest.json | format version, the kind "sequential", settings, what made the features, protocol card, checksums |
| network.safetensors | weights, and the items' features as the network reads them |
| tf_idf/NAME/ | where the features NAME are texts by TF-IDF: its words, so that those of new items are encoded alike |
| items.parquet | the catalogue |
| README.md | model card |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from llmrec.artifacts.item_sources import Sources
from llmrec.artifacts.manifest import FORMATS, IN_WORDS, SEQUENTIAL
from llmrec.artifacts.run_folder import MANIFEST, find_model, kept_catalog, model_card, read_manifest
from llmrec.backbones.model_files import check_weights, loading, weight_checksums
from llmrec.data.catalog import Catalog
from llmrec.encoders.tf_idf import TF_IDF, TfIdf
from llmrec.errors import ArtifactError
from llmrec.files import atomic_folder, write_json, write_text
from llmrec.sequential.recommender import SequentialRecommender, make_network
from llmrec.sequential.settings import (
    Bert4RecSettings,
    Gru4RecSettings,
    SasRecSettings,
    SequenceSettings,
    SequentialSettings,
)
from llmrec.version import __version__

NETWORK, WORDS = "network.safetensors", "tf_idf"
SETTINGS: dict[str, type[SequenceSettings]] = {
    "sequential": SequentialSettings,
    "sasrec": SasRecSettings,
    "gru4rec": Gru4RecSettings,
    "bert4rec": Bert4RecSettings,
}


@dataclass(frozen=True, eq=False)
class SequentialRun:
    """What a model folder holds. sources: what made each matrix of features, in the network's order (see `item_sources`); words: by
    the name of the features, TF-IDF as it was fitted."""

    recommender: SequentialRecommender
    catalog: Catalog
    sources: Sources
    words: Mapping[str, TfIdf]


def save_sequential(folder: Path, run: SequentialRun, protocol: Mapping[str, Any]) -> None:
    """Writes the model folder, replacing an older one there once everything is written.

    protocol: JSON facts about data, split, training events and seed that every number of this model depends on.
    """
    sources = {name: _settled(source, run.catalog) for name, source in run.sources.items()}
    network, settings = run.recommender.network, run.recommender.settings
    widths = network.inputs.features
    assert list(sources) == list(widths), f"features {list(widths)} come of {list(sources)}"
    by_words = {name for name, source in sources.items() if source.get("encoder") == TF_IDF}
    assert by_words == set(run.words), f"texts by TF-IDF are {by_words}, but there are words of {set(run.words)}"
    manifest = {
        "format_version": FORMATS[SEQUENTIAL][0],
        "kind": SEQUENTIAL,
        "llmrec_version": __version__,
        "network": next(name for name, kind in SETTINGS.items() if kind is type(settings)),
        "settings": settings.model_dump(mode="json"),
        "facts": run.recommender.facts,
        "sources": sources,
        "widths": widths,
        "num_items": run.catalog.num_items,
        "catalog_hash": run.catalog.content_hash,
        "protocol": dict(protocol),
    }
    with atomic_folder(folder, known_by=MANIFEST) as temporary:
        save_network(temporary, run.recommender)
        for name, tf_idf in run.words.items():
            tf_idf.save(temporary / WORDS / name)
        run.catalog.save(temporary / "items.parquet")
        write_json(temporary / MANIFEST, manifest | {"weights": weight_checksums(temporary)})
        write_text(temporary / "README.md", _model_card(run, manifest))


def save_network(folder: Path, recommender: SequentialRecommender) -> None:
    """Its weights, and its items' features as it reads them, into a folder that is not yet in place."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in recommender.network.state_dict().items()}
    save_file(tensors, folder / NETWORK)


def load_sequential(run: str | Path) -> SequentialRun:
    """The network of a run folder (or of the model folder inside it), on the CPU.

    Raises ArtifactError where the folder is no such run, is of a newer format, or a file in it is missing, broken or does not belong.
    """
    folder, manifest = find_model(run), read_manifest(run)
    if manifest["kind"] != SEQUENTIAL:
        raise ArtifactError(f"the run in '{folder}' is {IN_WORDS[manifest['kind']]}, not a network of item sequences.")
    check_weights(folder, manifest["weights"])
    mend = "It is damaged or was changed by hand; train it again."
    with loading(f"a complete run in '{folder}'", mend, ArtifactError):
        catalog = kept_catalog(folder, manifest)
        settings = SETTINGS[manifest["network"]].model_validate(manifest["settings"])
        recommender = _recommender(folder / NETWORK, settings, catalog.num_items, manifest)
        by_words = [name for name, source in manifest["sources"].items() if source.get("encoder") == TF_IDF]
        words = {name: TfIdf.load(folder / WORDS / name) for name in by_words}
        return SequentialRun(recommender, catalog, manifest["sources"], words)


def _recommender(
    path: Path, settings: SequenceSettings, num_items: int, manifest: Mapping[str, Any]
) -> SequentialRecommender:
    tensors = load_file(path)
    foreign = ArtifactError(
        f"'{path}' does not hold a network of the sizes that {MANIFEST} says; put the originals back."
    )
    if settings.num_layers > len(tensors):  # before so many are made
        raise foreign
    with torch.device("meta"):
        network = make_network(settings, num_items, manifest["widths"])
    if _kinds(tensors) != _kinds(network.state_dict()):
        raise foreign
    network.load_state_dict(tensors, assign=True)
    return SequentialRecommender(network.requires_grad_(False).eval(), settings, manifest["facts"])


def _kinds(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _settled(source: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The source with the columns of its texts: which hold words is a matter of the whole catalogue, not of a few new items."""
    return dict(source) | ({"fields": catalog.word_fields} if "fields" in source and source["fields"] is None else {})


def _model_card(run: SequentialRun, manifest: Mapping[str, Any]) -> str:
    named = f"A network of item sequences ({manifest['network']}), no language model, that recommends {run.catalog.num_items:,} items."
    made = {f"features `{name}`": source for name, source in manifest["sources"].items()}
    facts = {**run.recommender.card, **manifest["protocol"]}
    return model_card(named, made | {key: value for key, value in facts.items() if key != "features"})
