"""Semantic IDs: every item as a short, unique sequence of codes, one from each level's codebook.

Letters: N items, L code length (levels).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.errors import ArtifactError
from llmrec.files import atomic_folder, read_json, write_json

FORMAT_VERSION = 1
_LEVEL_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class SemanticIDs:
    """The codes of every item; rows are unique, so a whole row names exactly one item.

    codes: int32 (N, L), each in [0, codebook_sizes[level]). codebook_sizes: L positive ints.
    Raises ArtifactError if a code is out of range or two items share a row.
    """

    codes: np.ndarray
    codebook_sizes: tuple[int, ...]

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
        keys = self._keys(codes)
        order = np.argsort(keys, kind="stable")
        twins = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        if len(twins):
            first, second = int(order[twins[0]]), int(order[twins[0] + 1])
            raise ArtifactError(
                f"items {first} and {second} share the codes {codes[first].tolist()}; semantic IDs must be unique. "
                "Run `llmrec tokenize` again."
            )
        object.__setattr__(self, "_sorted_keys", keys[order])
        object.__setattr__(self, "_sorted_items", order)

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
        """One string a code, level by level and tagged with the level's letter: <a_0> ... <a_255> <b_0> ..."""
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
        keys = self._keys(codes)
        place = np.searchsorted(self._sorted_keys, keys).clip(max=self.num_items - 1)
        found = inside & (self._sorted_keys[place] == keys)
        return np.where(found, self._sorted_items[place], -1)

    def save(self, folder: str | Path, card: dict | None = None) -> None:
        """Writes FOLDER/codes.safetensors and FOLDER/semantic_ids.json, whole or not at all; `card` says how they were made.

        A folder that is there already is replaced. Raises LlmrecError where it cannot be written.
        """
        with atomic_folder(folder) as temporary:
            save_file({"codes": self.codes}, temporary / "codes.safetensors")
            description = {
                "format_version": FORMAT_VERSION,
                "codebook_sizes": list(self.codebook_sizes),
                "card": card or {},
            }
            write_json(temporary / "semantic_ids.json", description)

    @classmethod
    def load(cls, folder: str | Path) -> SemanticIDs:
        """Reads what `save` wrote. Raises ArtifactError for a folder that is not whole or of another format."""
        folder = Path(folder)
        description = read_json(folder / "semantic_ids.json", "description of semantic IDs", ArtifactError)
        if description.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"the semantic IDs in '{folder}' have format version {description.get('format_version')!r}; this program reads "
                f"version {FORMAT_VERSION}. Run `llmrec tokenize` again."
            )
        try:
            return cls(load_file(folder / "codes.safetensors")["codes"], tuple(description["codebook_sizes"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the semantic IDs in '{folder}' are not whole ({type(error).__name__}: {error}). Run `llmrec tokenize` again."
            ) from error

    def _keys(self, codes: np.ndarray) -> np.ndarray:
        """One sortable number a row; Python's integers where the codebooks' product passes 2^63."""
        sizes = [int(size) for size in self.codebook_sizes]
        wide = float(np.prod(np.asarray(sizes, dtype=np.float64))) > 2.0**62
        rows = codes.reshape(-1, len(sizes)).astype(object if wide else np.int64)
        keys = np.zeros(len(rows), dtype=rows.dtype)
        for level, size in enumerate(sizes):
            keys = keys * size + rows[:, level]
        return keys.reshape(codes.shape[:-1])
