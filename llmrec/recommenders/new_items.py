"""New items for a finished run, without training: free codes near their features, or, for the text form, their titles.

What training gave stays as it is: the model, its item table, the old items' codes. The run folder is written anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.backbones.item_features import TEXT, TextSource, catalog_features
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.errors import ArtifactError, DataError
from llmrec.files import atomic_folder, write_json, write_text
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.recommenders.artifact import MANIFEST, find_model, read_manifest


@dataclass(frozen=True)
class Added:
    """num_items: items of the run now; codes: int32 (num_new, L) of the new ones, None for the text form; folder: where it
    was written; missing_columns: what the old items have and the new ones lack; unused_columns: the other way round; score_rule:
    the run's."""

    num_new: int
    num_items: int
    codes: np.ndarray | None
    folder: Path
    missing_columns: list[str]
    unused_columns: list[str]
    score_rule: str


def add_items(
    run: str | Path, new: Catalog, *, features: Mapping[str, np.ndarray] | None = None, out: str | Path | None = None
) -> Added:
    """Writes the run's model with the new items behind the old ones; the old items keep their numbers and codes.

    Args:
        new: the items to add, each with a title. Columns that the run's catalogue lacks are left out; pictures too.
        features: name -> float32 (num_new, D), where the codes were made from other features than text.
        out: a folder to write instead of the run's own, which else is replaced once the new one is whole.

    Raises:
        ArtifactError: the run is none, gives every item a trained row of its own, or did not keep its codebooks.
        DataError: items that are there already or have no title, features that are missing or of another width.
    """
    folder, manifest = find_model(run), read_manifest(run)
    if manifest["form"] == "unique_id":
        raise ArtifactError(
            "every item of this run is a token with a row of its own that training made, and a new item has none: train again "
            "with the new items in the data, or train with items.form=semantic_id, whose codes new items share."
        )
    target = folder if out is None else Path(out)
    if out is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(f"'{target}' exists and is not empty, so it is left as it is. Name a new folder.")
    if new.num_untitled:
        first = next(new.item_id(item) for item in range(new.num_items) if not new.title(item))
        raise DataError(
            f"new items are known by their titles, but {new.num_untitled} of {new.num_items} have none (the first is "
            f"'{first}'). Fill them in or remove those rows."
        )
    old = _catalog(folder, manifest)
    lacking = [name for name in old.fields if name not in new.fields and name != "image"]
    unused = [name for name in new.fields if name not in old.fields or name == "image"]  # a run keeps no pictures
    grown = old.extend(Catalog(new.table.drop_columns(unused)))
    new = Catalog(grown.table.slice(old.num_items))  # its columns as the old items have them
    ids = None
    if manifest["form"] == "semantic_id":
        before = SemanticIDs.load(folder / "semantic_ids")
        ids = before.extend(_placed_by(before, new, features or {}, lacking))
        ids = replace(ids, card=ids.card | {"catalog_hash": grown.content_hash})
    elif features:
        raise DataError("this run writes items by their titles, so features have no use here. Leave them out.")
    with atomic_folder(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        grown.save(temporary / "items.parquet")
        if ids is not None:
            ids.save(temporary / "semantic_ids")
        write_json(temporary / MANIFEST, _grown_manifest(manifest, grown, new.num_items))
        card = (temporary / "README.md").read_text(encoding="utf-8")
        write_text(temporary / "README.md", f"{card}\n{new.num_items:,} items were added without training.\n")
    codes = None if ids is None else ids.codes[-new.num_items :]
    return Added(new.num_items, grown.num_items, codes, target, lacking, unused, manifest["score_rule"])


def _placed_by(ids: SemanticIDs, new: Catalog, features: Mapping[str, np.ndarray], lacking: list[str]) -> np.ndarray:
    """The new items' features in the scale of the codebooks: float32 (num_new, D). lacking: columns the new items came without."""
    if ids.codebooks is None or "features" not in ids.card:
        raise ArtifactError(
            "the semantic IDs of this run came without the codebooks and features they were made with (an older llmrec, or codes "
            "made by hand), so new items cannot be placed. Run `llmrec tokenize` on the data and train again."
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
    named = Features(new.num_items)
    for name, vectors in features.items():
        named.add(name, vectors)
    text = TextSource(encoder=ids.card["encoder"], fields=fields) if TEXT in sources else None
    found = catalog_features(sources, new, named, text=text)
    return ids.codebooks.scaling.apply([found[name] for name in sources], [found.present[name] for name in sources])


def _catalog(folder: Path, manifest: dict[str, Any]) -> Catalog:
    catalog = Catalog.load(folder / "items.parquet")
    if catalog.content_hash != manifest["catalog_hash"]:
        raise ArtifactError(f"'{folder / 'items.parquet'}' is not the catalogue of this run; put the original back.")
    return catalog


def _grown_manifest(manifest: dict[str, Any], grown: Catalog, num_new: int) -> dict[str, Any]:
    added = manifest["protocol"].get("added_items", 0) + num_new
    return manifest | {
        "num_items": grown.num_items,
        "catalog_hash": grown.content_hash,
        "protocol": manifest["protocol"] | {"added_items": added},
    }
