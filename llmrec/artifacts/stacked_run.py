"""The model folder of a stack: its parts, each as it is kept by itself, and their weights, written whole or not at all.

| file | what |
|---|---|
| manifest.json | format version, the kind "stacked", what the parts are, their weights, protocol card, checksums |
| parts/NAME/ | the model folder of a run, or a kept baseline |
| counts.safetensors | training events of each item |
| items.parquet | the catalogue |
| README.md | model card |
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.artifacts.manifest import FORMATS, LANGUAGE_MODEL, SEQUENTIAL, STACKED
from llmrec.artifacts.run_folder import MANIFEST, find_model, kept_catalog, model_card, read_manifest
from llmrec.backbones.model_files import check_weights, loading, weight_checksums
from llmrec.baselines.kept import BASELINE, load_baseline
from llmrec.data.catalog import Catalog
from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import atomic_folder, write_json, write_text
from llmrec.recommenders.requests import DenseRecommender, Ranker
from llmrec.recommenders.stack_weights import StackWeights
from llmrec.recommenders.stacked import ListedScores, Part, Stacked
from llmrec.version import __version__

PARTS, COUNTS = "parts", "counts.safetensors"


@dataclass(frozen=True, eq=False)
class StackedRun:
    """What a model folder holds."""

    recommender: Stacked
    catalog: Catalog


def part_of_run(name: str, folder: Path, ranker: Ranker) -> Part:
    """A run as a part: by all its scores, or by its list where it has no more. folder: its model folder.

    Raises ConfigError for a stack: one within another would have weights of weights.
    """
    manifest = read_manifest(folder)
    if manifest["kind"] == STACKED:
        raise ConfigError(f"'{folder}' is a stack itself; name the runs that it is made of.")
    by_events = {SEQUENTIAL: lambda: not manifest["sources"], LANGUAGE_MODEL: lambda: manifest["form"] == "unique_id"}
    dense = ranker if isinstance(ranker, DenseRecommender) else ListedScores(ranker)
    return Part(name, dense, by_events[manifest["kind"]]())


def save_stacked(folder: Path, run: StackedRun, parts: Mapping[str, Path], protocol: Mapping[str, Any]) -> None:
    """Writes the model folder, replacing an older one there once everything is written.

    parts: of each part, in their order, the folder that it is copied from; protocol: JSON facts about data, split, training events and
    seed that every number of this model depends on.
    """
    stack = run.recommender
    assert tuple(parts) == stack.weights.names, f"folders of {list(parts)} for parts {stack.weights.names}"
    manifest = {
        "format_version": FORMATS[STACKED][0],
        "kind": STACKED,
        "llmrec_version": __version__,
        "parts": list(parts),
        "stack_weights": stack.weights.to_json(),
        "num_items": run.catalog.num_items,
        "catalog_hash": run.catalog.content_hash,
        "protocol": dict(protocol),
    }
    with atomic_folder(folder, known_by=MANIFEST) as temporary:
        for name, source in parts.items():
            shutil.copytree(source, temporary / PARTS / name)
        save_file({"counts": stack.counts}, temporary / COUNTS)
        run.catalog.save(temporary / "items.parquet")
        write_json(temporary / MANIFEST, manifest | {"weights": weight_checksums(temporary)})
        write_text(temporary / "README.md", _model_card(stack, protocol))


def load_stacked(run: str | Path, open_part: Callable[[Path], Ranker]) -> StackedRun:
    """The stack of a run folder (or of the model folder inside it). open_part: the ranker of a part that is a run.

    Raises ArtifactError where the folder is no such run, is of a newer format, or a file in it is missing, broken or does not belong.
    """
    folder, manifest = find_model(run), read_manifest(run)
    if manifest["kind"] != STACKED:
        raise ArtifactError(f"the run in '{folder}' is no stack.")
    check_weights(folder, manifest["weights"])
    mend = "It is damaged or was changed by hand; stack its parts again."
    with loading(f"a complete run in '{folder}'", mend, ArtifactError):
        catalog = kept_catalog(folder, manifest)
        counts = load_file(folder / COUNTS)["counts"]
        if counts.shape != (catalog.num_items,) or not np.issubdtype(counts.dtype, np.integer):
            raise ArtifactError(f"'{folder / COUNTS}' is not of this catalogue; put the original back.")
        parts = [_part(name, folder / PARTS / name, open_part) for name in manifest["parts"]]
        return StackedRun(Stacked(parts, counts, StackWeights.from_json(manifest["stack_weights"])), catalog)


def _part(name: str, folder: Path, open_part: Callable[[Path], Ranker]) -> Part:
    if (folder / BASELINE).is_file():
        baseline = load_baseline(folder)
        return Part(name, baseline, baseline.by_events)
    return part_of_run(name, folder, open_part(folder))


def _model_card(stack: Stacked, protocol: Mapping[str, Any]) -> str:
    named = f"A stack of {len(stack.parts)} recommenders that recommends {stack.num_items:,} items."
    return model_card(named, {"parts": ", ".join(stack.weights.names), **stack.weights.card, **protocol})
