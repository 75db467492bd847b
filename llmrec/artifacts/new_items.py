"""New items for a finished run, without training: free codes near their features, titles for the text form, soft tokens that the
run's adapter makes of their own features, and to a network of item sequences those features themselves.

What training gave stays as it is: the model, its item table, the old items' codes and features. The run folder is written anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.artifacts.item_sources import (
    Sources,
    check_words_kept,
    grown_features,
    is_of_images,
    new_features,
    own_matrices,
)
from llmrec.artifacts.manifest import SEQUENTIAL, STACKED
from llmrec.artifacts.run_folder import MANIFEST, find_model, kept_catalog, read_manifest
from llmrec.artifacts.sequential_run import load_sequential, save_network
from llmrec.artifacts.vector_tokens import FEATURES, VECTOR_TOKENS, soft_sources
from llmrec.backbones.model_files import check_weights, weight_checksums
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.images import image_paths
from llmrec.encoders.item_features import TEXT, TextSource, catalog_features
from llmrec.errors import ArtifactError, DataError
from llmrec.files import atomic_folder, sweep, write_json, write_text
from llmrec.items.semantic_ids import SemanticIDs


@dataclass(frozen=True)
class Added:
    """num_items: items of the run now; codes: int32 (num_new, L) of the new ones, None for forms without; folder: where it
    was written; missing_columns: what the old items have and the new ones lack; unused_columns: the other way round; softmax_scope:
    the run's, None without a language model; without: how many of the new items lack each feature that some lack, for runs that know
    items by features; num_unknown: how many of them lack all."""

    num_new: int
    num_items: int
    codes: np.ndarray | None
    folder: Path
    missing_columns: list[str]
    unused_columns: list[str]
    softmax_scope: str | None
    without: dict[str, int]
    num_unknown: int


@dataclass(frozen=True)
class _Grown:
    """What becomes of a run: write: puts what changed into a copy of the model folder; the others: see `Added`."""

    write: Callable[[Path], None]
    codes: np.ndarray | None
    without: dict[str, int]
    num_unknown: int = 0


@dataclass(frozen=True)
class _NewItems:
    """catalog: the new items with the columns of the old ones; of_run: both; lacking: columns that they came without."""

    catalog: Catalog
    of_run: Catalog
    lacking: list[str]
    features: Mapping[str, np.ndarray]
    images: list[Path | None] | None


def add_items(
    run: str | Path,
    new: Catalog,
    *,
    features: Mapping[str, np.ndarray] | None = None,
    images: str | Path | None = None,
    out: str | Path | None = None,
) -> Added:
    """Writes the run's model with the new items after the old ones; the old items keep their numbers, codes and scores.

    Args:
        new: the items to add, each with a title. Columns that the run's catalogue lacks are left out; images too, but where
            items are known by them they are read.
        features: name -> float32 (num_new, D), where items are known by matrices of the user's own.
        images: the folder that the column `image` of `new` counts from.
        out: a folder to write instead of the run's own, which else is replaced once the new one is whole.

    Raises:
        ArtifactError: the run is none, knows every item by a trained embedding of its own alone, or did not keep its codebooks.
        DataError: items that are there already or have no title, features that are missing or of another width.
        ModelError: an encoder that the run's features were made by cannot be used.
    """
    folder, manifest = find_model(run), read_manifest(run)
    if "weights" in manifest:
        check_weights(folder, manifest["weights"])
    if manifest["kind"] == STACKED:
        raise ArtifactError(
            f"'{folder}' is a stack: its parts are what knows items. Add the items to the runs that it was made of, and stack those."
        )
    is_sequential = manifest["kind"] == SEQUENTIAL
    (_refuse_ids_alone if is_sequential else _refuse_what_cannot_grow)(manifest)
    _refuse_untitled(new)
    target = _checked_target(folder, out)
    old, sources = kept_catalog(folder, manifest), _sources(folder, manifest)
    lacking = [name for name in old.fields if name not in new.fields and name != "image"]
    left_out = [name for name in new.fields if name not in old.fields or name == "image"]  # a run keeps no images
    reads_images = any(is_of_images(*source) for source in sources.items()) and "image" in new.fields
    paths = image_paths(new, Path(images or ".")) if reads_images else None
    unused = [name for name in left_out if name != "image" or paths is None]
    of_run = old.extend(Catalog(new.table.drop_columns(left_out)))
    items = _NewItems(Catalog(of_run.table.slice(old.num_items)), of_run, lacking, features or {}, paths)
    grown = (_grown_network if is_sequential else _grown_language_model)(folder, manifest, sources, items)
    with atomic_folder(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        of_run.save(temporary / "items.parquet")
        grown.write(temporary)
        changed = _grown_manifest(manifest, of_run, new.num_items)
        write_json(temporary / MANIFEST, changed | {"weights": weight_checksums(temporary)})
        card = (temporary / "README.md").read_text(encoding="utf-8")
        write_text(temporary / "README.md", f"{card}\n{new.num_items:,} items were added without training.\n")
    return Added(
        new.num_items, of_run.num_items, grown.codes, target, lacking, unused, manifest.get("softmax_scope"), grown.without,
        grown.num_unknown,
    )  # fmt: skip


def _grown_network(folder: Path, manifest: dict[str, Any], sources: Sources, items: _NewItems) -> _Grown:
    """A network of item sequences: new items are what the maps of training make of their features."""
    run = load_sequential(folder)
    added, without = new_features(manifest["widths"], sources, items.catalog, items.features, items.images, run.words)
    num_new = items.catalog.num_items
    recommender = run.recommender.with_new_items({name: (added[name], added.present[name]) for name in added}, num_new)
    num_unknown = int((~np.logical_or.reduce([added.present[name] for name in added])).sum())
    return _Grown(lambda to: save_network(to, recommender), None, without, num_unknown)


def _grown_language_model(folder: Path, manifest: dict[str, Any], sources: Sources, items: _NewItems) -> _Grown:
    has_codes, given = manifest["form"] == "semantic_id", items.features
    own = own_matrices(sources)
    if given and not sources and not has_codes:
        raise DataError("this run writes items by their titles, so features have no use here. Leave them out.")
    soft, without, ids = None, {}, None
    if sources:
        # what only the codes are made from is for those to look at
        mine = {name: vectors for name, vectors in given.items() if name in own or not has_codes}
        num_old = items.of_run.num_items - items.catalog.num_items
        before = Features.load(folder / VECTOR_TOKENS / FEATURES, num_old)
        soft, without = grown_features(before, sources, items.catalog, mine, items.images)
    if has_codes:
        ids = _grown_codes(folder, items.of_run, items.catalog, given, own, items.lacking)

    def write(to: Path) -> None:
        if ids is not None:
            ids.save(to / "semantic_ids")
        if soft is not None:
            soft.save(to / VECTOR_TOKENS / FEATURES)

    return _Grown(write, None if ids is None else ids.codes[-items.catalog.num_items :], without)


def _sources(folder: Path, manifest: dict[str, Any]) -> Sources:
    """What the features by which the run knows items were made from, in their order; none for a run without."""
    return manifest["sources"] if manifest["kind"] == SEQUENTIAL else soft_sources(folder / VECTOR_TOKENS)


def _refuse_ids_alone(manifest: dict[str, Any]) -> None:
    if not manifest["sources"]:
        raise ArtifactError(
            "this run knows every item by a trained embedding alone, and a new item has none: train again with features of the items "
            "(the recipe sequential has texts by TF-IDF as its default), or with the new items in the data."
        )


def _refuse_what_cannot_grow(manifest: dict[str, Any]) -> None:
    if "unique_id" in (manifest["form"], *manifest["prompt_forms"]):
        raise ArtifactError(
            "every item of this run is a token with an embedding of its own that training made, and a new item has none: train again "
            "with the new items in the data, or train with items.form=semantic_id, whose codes new items share, or "
            "items.form=soft, whose embeddings are made from features."
        )
    if "image" in manifest["prompt_forms"]:
        raise ArtifactError(
            "prompts of this run hold images as vision tokens, which are made when it is trained; train again with the new items in "
            "the data, or train with soft tokens of images: items.form=soft, soft.features=[text,image]."
        )


def _checked_target(folder: Path, out: str | Path | None) -> Path:
    target = folder if out is None else Path(out)
    sweep(target.parent)  # first: what was killed once the new folder lay there is refused below
    if out is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(f"'{target}' exists and is not empty, so it is left as it is. Name a new folder.")
    return target


def _refuse_untitled(new: Catalog) -> None:
    if new.num_untitled:
        first = next(new.item_id(item) for item in range(new.num_items) if not new.title(item))
        raise DataError(
            f"new items are known by their titles, but {new.num_untitled} of {new.num_items} have none (the first is "
            f"'{first}'). Fill them in or remove those rows."
        )


def _grown_codes(
    folder: Path,
    grown: Catalog,
    new: Catalog,
    given: Mapping[str, np.ndarray],
    of_soft: Collection[str],
    lacking: list[str],
) -> SemanticIDs:
    """The run's semantic ids with those of the new items after them. of_soft: matrices that soft tokens are made of."""
    before = SemanticIDs.load(folder / "semantic_ids")
    made_from = before.card.get("features", [])
    mine = {name: vectors for name, vectors in given.items() if name in made_from or name not in of_soft}
    ids = before.extend(_placed_by(before, new, mine, lacking))
    return replace(ids, card=ids.card | {"catalog_hash": grown.content_hash})


def _placed_by(ids: SemanticIDs, new: Catalog, features: Mapping[str, np.ndarray], lacking: list[str]) -> np.ndarray:
    """The new items' features in the scale of the codebooks: float32 (num_new, D). lacking: columns the new items came without."""
    if ids.codebooks is None or "features" not in ids.card:
        raise ArtifactError(
            "the semantic IDs of this run came without the codebooks and features they were made with (an older llmrec, or codes "
            "made by hand), so new items get no codes. Run `llmrec tokenize` on the data and train again."
        )
    sources, fields = ids.card["features"], ids.card["fields"]
    wanted = [source for source in sources if source != TEXT]
    if set(wanted) != set(features):
        given = ", ".join(f"'{name}'" for name in features) or "nothing"
        needed = ", ".join(f"'{name}'" for name in wanted) or "nothing but the items' texts"
        raise DataError(
            f"the codes of this run were made from {needed}, but there are features for {given}. "
            + ("Give vectors for each: --features NAME=FILE.npy." if wanted else "Leave --features out.")
        )
    if TEXT in sources and set(fields) <= set(lacking):
        raise DataError(
            f"the codes of this run were made from the columns {', '.join(fields)}, and the new items have none of them. Add them."
        )
    if TEXT in sources:
        check_words_kept(ids.card["encoder"])
    named = Features(new.num_items)
    for name, vectors in features.items():
        named.add(name, vectors)
    text = TextSource(encoder=ids.card["encoder"], fields=fields) if TEXT in sources else None
    found = catalog_features(sources, new, named, text=text)
    return ids.codebooks.scaling.apply([found[name] for name in sources], [found.present[name] for name in sources])


def _grown_manifest(manifest: dict[str, Any], grown: Catalog, num_new: int) -> dict[str, Any]:
    added = manifest["protocol"].get("added_items", 0) + num_new
    return manifest | {
        "num_items": grown.num_items,
        "catalog_hash": grown.content_hash,
        "protocol": manifest["protocol"] | {"added_items": added},
    }
