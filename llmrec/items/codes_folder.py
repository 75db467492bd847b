"""Which semantic ids a training takes: those named, or the only ones that `llmrec tokenize` wrote into the data folder."""

from __future__ import annotations

from pathlib import Path

from llmrec.data.folder import SEMANTIC_IDS, Data
from llmrec.errors import ConfigError
from llmrec.files import put_all_back
from llmrec.items.semantic_ids import SemanticIDs


def find_codes(named: str | None, data: Data) -> SemanticIDs:
    """The semantic ids named, or the only ones in the data folder; those of another catalogue are refused."""
    if named is not None:
        return codes_of(Path(named), data)
    folders = sorted(path.parent for path in put_all_back(data.folder / SEMANTIC_IDS).glob("[!.]*/codes.safetensors"))
    if len(folders) != 1:
        found = (
            f"there are {len(folders)}: {', '.join(map(str, folders))}; choose with items.semantic_ids=FOLDER"
            if folders
            else "there are none"
        )
        raise ConfigError(
            f"expected one folder of semantic ids in '{data.folder}/semantic_ids', but {found}. `llmrec tokenize` makes them."
        )
    return codes_of(folders[0], data)


def codes_of(folder: Path, data: Data) -> SemanticIDs:
    """The semantic ids in `folder`, made for this very catalogue where their card says which they were made for."""
    codes = SemanticIDs.load(folder)
    made_for = codes.card.get("catalog_hash")
    if made_for not in (None, data.catalog.content_hash):
        raise ConfigError(
            f"the semantic ids in '{folder}' were made for another catalogue (content {made_for}, that of '{data.folder}' is "
            f"{data.catalog.content_hash}). Run `llmrec tokenize` on these data."
        )
    return codes
