"""Named matrices about the items: one row per item, each name with its own width, and which rows are really there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.data.reading import reading
from llmrec.errors import DataError
from llmrec.files import atomic_file, check_name


class Features:
    """Vectors of the items by name, such as "text" or "image".

    `features[name]`: float32 (num_items, D_name), finite, zero where absent; `features.present[name]`: bool (num_items,).
    """

    def __init__(self, num_items: int) -> None:
        self.num_items = num_items
        self.present: dict[str, np.ndarray] = {}
        self._vectors: dict[str, np.ndarray] = {}

    @property
    def names(self) -> list[str]:
        """The names that have vectors, in the order they were added."""
        return list(self._vectors)

    def __contains__(self, name: str) -> bool:
        return name in self._vectors

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, name: str) -> np.ndarray:
        """float32 (num_items, D_name). Raises DataError for an unknown name."""
        if name not in self._vectors:
            raise DataError(f"there are no features '{name}' (there are: {', '.join(self.names) or 'none'}).")
        return self._vectors[name]

    def add(self, name: str, vectors: np.ndarray, present: np.ndarray | None = None) -> None:
        """Add or replace the vectors of one name.

        vectors: numbers (num_items, D_name), finite in present rows; present: bool (num_items,), by default all.
        Raises DataError for another shape, for NaN or infinity in a present row, or a name that is no file name.
        """
        check_name(name, "the name of features", DataError)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != self.num_items or not vectors.shape[1]:
            raise DataError(
                f"the features '{name}' should have one row for each of the {self.num_items} items, "
                f"but their shape is {vectors.shape}. Compute them from this catalog, in its order."
            )
        # a column of a mask is strided, and safetensors writes memory as it lies
        present = np.ones(self.num_items, bool) if present is None else np.ascontiguousarray(present)
        if present.shape != (self.num_items,) or present.dtype != bool:
            raise DataError(
                f"the features '{name}' say which items have them as {present.dtype} {present.shape}, "
                f"but it should be bool ({self.num_items},)."
            )
        broken = present & ~np.isfinite(vectors).all(axis=1)
        if broken.any():
            raise DataError(
                f"the features '{name}' should be finite, but {broken.sum()} items have NaN or infinity "
                f"(the first is item {np.argmax(broken)}). Compute them again, or mark those items as absent."
            )
        self._vectors[name] = vectors if present.all() else np.where(present[:, None], vectors, np.float32(0))
        self.present[name] = present

    def save(self, folder: str | Path) -> None:
        """Write FOLDER/NAME.safetensors for every name, each whole or not at all."""
        for name in self:
            with atomic_file(Path(folder) / f"{name}.safetensors") as temporary:
                save_file({"vectors": self._vectors[name], "present": self.present[name]}, temporary)

    @classmethod
    def load(cls, folder: str | Path, num_items: int) -> Features:
        """Read what `save` wrote; no folder means no features. Raises DataError for a broken file or other items."""
        features = cls(num_items)
        for path in sorted(Path(folder).glob("*.safetensors")):
            # the others than SafetensorError: a matrix that is not there, numbers that numpy lacks, shapes that no array has
            broken = (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OverflowError)
            with reading(path, "a whole file of features", *broken, advice="Delete it and compute them again."):
                content = load_file(path)
                vectors, present = content["vectors"], content["present"]
            features.add(path.stem, vectors, present)
        return features
