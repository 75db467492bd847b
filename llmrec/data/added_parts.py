"""What other commands added to a prepared data folder, what each part of it was made for, and whether it still fits.

| part | made for | fits |
|---|---|---|
| features/NAME | the items, in their order | the same item ids |
| semantic_ids/NAME | a catalogue (`catalog_hash` of its card) | the same catalogue |
| generated_texts/NAME about items | a catalogue | the same catalogue, or one with more items after them |
| generated_texts/NAME about users | all the data (`content_hash` of its card) | the same data |
| splits/NAME | all the data (`content_hash` of its card) | the same data |
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrec.data.catalog import Catalog
from llmrec.data.folder import Data
from llmrec.errors import DataError
from llmrec.files import put_all_back, put_back, read_json, unfinished

_CARDS = {"semantic_ids": "semantic_ids.json", "generated_texts": "card.json", "splits": "split.json"}
_WORDS = {
    "features": "features",
    "semantic_ids": "semantic ids",
    "generated_texts": "generated texts",
    "splits": "the split",
}


@dataclass(frozen=True)
class AddedPart:
    """files: those of the part, below the data folder; str() is what a sentence calls it."""

    kind: Literal["features", "semantic_ids", "generated_texts", "splits"]
    name: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{_WORDS[self.kind]} '{self.name}'"


def added_parts(folder: Path) -> list[AddedPart]:
    """All that `llmrec features`, `tokenize`, `enrich` and `data published` put into a data folder, and what else lies there."""
    return list(_added(folder))


def _added(folder: Path) -> Iterator[AddedPart]:
    for kind in ("features", "semantic_ids", "generated_texts", "splits"):
        place = put_all_back(folder / kind)
        left = set(unfinished(place))
        entries = sorted(place.iterdir()) if place.is_dir() else []
        by_name: dict[str, list[Path]] = {}
        for entry in entries:
            if entry not in left:
                name = entry.stem if kind == "features" else entry.name  # NAME.safetensors and NAME.json are one
                by_name.setdefault(name, []).append(entry.relative_to(folder))
        for name, files in by_name.items():
            yield AddedPart(kind, name, tuple(files))


def keep_added(old: Path, new: Path, data: Data, *, force: bool, made_here: Collection[str] = ()) -> None:
    """Copies what was added to the data folder `old` and fits `data` into `new`. made_here: splits that `new` has of its own already.

    Raises DataError, and copies nothing, where something does not fit; with `force` that is left behind.
    """
    parts = [part for part in added_parts(put_back(old)) if part.kind != "splits" or part.name not in made_here]
    before = _catalog(old) if parts else None
    fitting = [part for part in parts if _fits(part, old, before, data)]
    lost = [part for part in parts if part not in fitting]
    if lost and not force:
        raise DataError(
            f"'{old}' also holds what was made for the data in it and does not fit these: {', '.join(map(str, lost))}. They would be "
            "lost. Name a new folder with --out, or give --force to lose them."
        )
    for file in (file for part in fitting for file in part.files):
        (new / file).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (old / file).is_dir() else shutil.copyfile
        copy(old / file, new / file)


def texts_fit(card: dict, data: Data) -> Literal["all", "first", "none"]:
    """Which items (or users) of `data` the texts with this card were written about: "first" where the catalogue has grown since."""
    if card.get("about") == "users":
        return "all" if card.get("content_hash") == data.content_hash() else "none"
    made_for, num_old, catalog = card.get("catalog_hash"), card.get("num_rows"), data.catalog
    if made_for == catalog.content_hash:
        return "all"
    has_grown = isinstance(num_old, int) and 0 < num_old < catalog.num_items
    return "first" if has_grown and Catalog(catalog.table.slice(0, num_old)).content_hash == made_for else "none"


def _catalog(folder: Path) -> Catalog | None:
    """The catalogue that features are rows of; None where it cannot be read, and so nothing is known of them."""
    try:
        return Catalog.load(folder / "items.parquet")
    except DataError:
        return None


def _fits(part: AddedPart, folder: Path, before: Catalog | None, data: Data) -> bool:
    """before: the catalogue of the folder that the part lies in."""
    if part.kind == "features":
        return before is not None and before.table["item_id"].equals(data.catalog.table["item_id"])
    try:
        card = read_json(folder / part.kind / part.name / _CARDS[part.kind], "card", DataError)
    except DataError:
        return False
    if part.kind == "generated_texts":
        return texts_fit(card, data) != "none"
    if part.kind == "splits":
        return card.get("content_hash") == data.content_hash()
    inner = card.get("card")
    made_for = inner.get("catalog_hash") if isinstance(inner, dict) else None
    # codes that were made by hand do not say what they are for: they are for the catalogue in the same folder
    return (made_for or (before and before.content_hash)) == data.catalog.content_hash
