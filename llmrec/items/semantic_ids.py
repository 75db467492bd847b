"""Semantic IDs: every item as a short, unique sequence of codes, one from each level's codebook.

Letters: N items, L code length (levels).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.errors import ArtifactError, DataError
from llmrec.files import atomic_folder, content_hash, put_back, read_json, write_json
from llmrec.items.codebooks import Codebooks, nearest_codes
from llmrec.items.unique_codes import make_unique, row_keys

FORMAT_VERSION = 1
DESCRIPTION = "semantic_ids.json"
_LEVEL_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class SemanticIDs:
    """The codes of every item; rows are unique, so a whole row names exactly one item.

    codes: int32 (N, L), each in [0, codebook_sizes[level]). codebook_sizes: L positive ints. codebooks: what the codes were
    made with, None where that is not known; without them no item can be added. card: how they were made, JSON values.
    Raises ArtifactError if a code is out of range, two items share a row, or the codebooks have other sizes.
    """

    codes: np.ndarray
    codebook_sizes: tuple[int, ...]
    codebooks: Codebooks | None = None
    card: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        codes = np.ascontiguousarray(self.codes, dtype=np.int32)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        if codes.ndim != 2 or codes.shape[1] != len(self.codebook_sizes) or not self.codebook_sizes:
            raise ArtifactError(
                f"semantic IDs need a code for each of {len(self.codebook_sizes)} levels; "
                f"the codes have shape {codes.shape}. Run `llmrec tokenize` again."
            )
        if len(self.codebook_sizes) > len(_LEVEL_LETTERS):
            raise ArtifactError(
                f"semantic IDs have at most {len(_LEVEL_LETTERS)} levels, not {len(self.codebook_sizes)}."
            )
        wrong = ((codes < 0) | (codes >= np.asarray(self.codebook_sizes))).any(axis=1)
        if wrong.any():
            item = int(np.flatnonzero(wrong)[0])
            raise ArtifactError(
                f"item {item} has the codes {codes[item].tolist()}, outside the codebooks {list(self.codebook_sizes)}."
            )
        if self.codebooks is not None and self.codebooks.sizes != self.codebook_sizes:
            raise ArtifactError(
                f"codes of the sizes {list(self.codebook_sizes)} came with codebooks of {list(self.codebooks.sizes)}. "
                "Run `llmrec tokenize` again."
            )
        keys = np.sort(row_keys(codes, self.codebook_sizes))
        if (keys[1:] == keys[:-1]).any():
            keys, order = self._by_key
            position = int(np.argmax(keys[1:] == keys[:-1]))
            first, second = int(order[position]), int(order[position + 1])
            raise ArtifactError(
                f"items {first} and {second} share the codes {codes[first].tolist()}; semantic IDs must be unique. "
                "Run `llmrec tokenize` again."
            )

    @cached_property
    def _by_key(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows' keys in rising order, int64 (N,) or objects, and their items, int32 (N,)."""
        keys = row_keys(self.codes, self.codebook_sizes)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        return keys[order], order

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.codes)

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.codebook_sizes)

    @property
    def token_strings(self) -> list[str]:
        """One string per code, level by level and tagged with the level's letter: <a_0> ... <a_255> <b_0> ..."""
        return [
            f"<{letter}_{code}>"
            for letter, size in zip(_LEVEL_LETTERS, self.codebook_sizes, strict=False)
            for code in range(size)
        ]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Items of rows of codes: int (..., L) -> int64 (...), -1 where no item has those codes."""
        codes = np.asarray(codes)
        inside = ((codes >= 0) & (codes < np.asarray(self.codebook_sizes))).all(axis=-1)
        if self.num_items == 0:
            return np.full(inside.shape, -1)
        known, items = self._by_key
        keys = row_keys(codes, self.codebook_sizes)
        position = np.searchsorted(known, keys).clip(max=self.num_items - 1)
        found = inside & (known[position] == keys)
        return np.where(found, items[position].astype(np.int64), -1)

    def extend(self, features: np.ndarray) -> SemanticIDs:
        """The same with M more items at the end: old rows stay, each new item takes a free row near its features.

        That is the row of its nearest codes or, where another item has it, the nearest free code of the last level, else of
        the next-nearest prefix; new items that want the same row share it out as `make_unique` says. The codebooks do not
        move, so items unlike all that the codebooks were made from are only roughly where they belong.

        features: float32 (M, D), finite, in the codebooks' scale (`codebooks.scaling.apply`).
        Raises ArtifactError where the codebooks were not kept, DataError for other features or more items than free rows.
        """
        if self.codebooks is None:
            raise ArtifactError(
                "these semantic IDs came without the codebooks they were made with, so new items cannot get codes. "
                "Run `llmrec tokenize` on the data, which keeps them, and train again."
            )
        features = np.ascontiguousarray(features, dtype=np.float32)
        if features.ndim != 2 or features.shape[1] != self.codebooks.width or not np.isfinite(features).all():
            raise DataError(
                f"new items need one row of {self.codebooks.width} finite numbers each, as the items before them had, but "
                f"their features have shape {features.shape}"
                + ("." if np.isfinite(features).all() else " and hold NaN or infinity.")
            )
        capacity = float(np.prod(np.asarray(self.codebook_sizes, dtype=np.float64)))
        if self.num_items + len(features) > capacity:
            raise DataError(
                f"{len(features)} new items do not fit: of {capacity:.0f} sequences of codes {self.num_items} are taken. "
                "Run `llmrec tokenize` with larger codebooks, and train again."
            )
        nearest = nearest_codes(features, self.codebooks.levels)
        added = make_unique(features, nearest, self.codebooks.levels, taken=self.codes)
        codes = np.concatenate([self.codes, added])
        card = self.card | {
            "codes_hash": content_hash(codes),
            "added_items": self.card.get("added_items", 0) + len(added),
        }
        return replace(self, codes=codes, card=card)

    def save(self, folder: str | Path) -> None:
        """Writes codes, codebooks where there are any, and semantic_ids.json with the card, whole or not at all.

        Older ones there are replaced. Raises LlmrecError where it cannot be written, or holds something else.
        """
        with atomic_folder(folder, known_by=DESCRIPTION) as temporary:
            save_file({"codes": self.codes}, temporary / "codes.safetensors")
            if self.codebooks is not None:
                save_file(self.codebooks.tensors(), temporary / "codebooks.safetensors")
            description = {
                "format_version": FORMAT_VERSION,
                "codebook_sizes": list(self.codebook_sizes),
                "card": self.card,
            }
            write_json(temporary / DESCRIPTION, description)

    @classmethod
    def load(cls, folder: str | Path) -> SemanticIDs:
        """Reads what `save` wrote. Raises ArtifactError for a folder that is not whole or of another format."""
        folder = Path(folder)
        description = read_json(put_back(folder) / DESCRIPTION, "description of semantic IDs", ArtifactError)
        if description.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"the semantic IDs in '{folder}' have format version {description.get('format_version')!r}; this program reads "
                f"version {FORMAT_VERSION}. Run `llmrec tokenize` again."
            )
        try:
            kept = folder / "codebooks.safetensors"
            codebooks = Codebooks.from_tensors(load_file(kept)) if kept.is_file() else None
            codes = load_file(folder / "codes.safetensors")["codes"]
            return cls(codes, tuple(description["codebook_sizes"]), codebooks, description["card"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the semantic IDs in '{folder}' are not whole ({type(error).__name__}: {error}). Run `llmrec tokenize` again."
            ) from error
