"""What semantic IDs were made with, and what new items get their codes by: the scale of the features and the centroids of every level.

Letters: N items, L levels, K codes of a level, D width of the features, D_f width of one of the matrices side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import DataError

_SCORES_A_PASS = 2**18  # a megabyte, which stays in the second-level cache


@dataclass(frozen=True, eq=False)
class Scaling:
    """Brings feature matrices side by side: (features - centre) / length. centre, length: float32 (D,), length > 0."""

    centre: np.ndarray
    length: np.ndarray

    @classmethod
    def none(cls, width: int) -> Scaling:
        """The scaling of a single matrix (N, width), which stays as it is."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))

    @classmethod
    def fit(cls, matrices: Sequence[np.ndarray], present: Sequence[np.ndarray]) -> Scaling:
        """The mean of each matrix's present rows, and the root of their mean squared length around it.

        matrices: numbers (N, D_f); present: bool (N,) each. A matrix whose present rows are all alike keeps the length 1.
        """
        centres, lengths = [], []
        for matrix, there in zip(matrices, present, strict=True):
            rows = np.asarray(matrix, dtype=np.float32)[there]
            centre = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1], np.float32)
            length = float(np.sqrt(((rows - centre) ** 2).sum(axis=1).mean())) if len(rows) else 0.0
            centres.append(centre)
            lengths.append(np.full(rows.shape[1], length if length > 0 else 1.0))
        return cls(np.concatenate(centres).astype(np.float32), np.concatenate(lengths).astype(np.float32))

    def apply(self, matrices: Sequence[np.ndarray], present: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """The matrices (M, D_f) of any items as one, float32 (M, D); absent rows become zero, the centre. None: all are present.

        Raises DataError where the widths are not those the scaling was fitted on.
        """
        width = sum(matrix.shape[1] for matrix in matrices)
        if width != len(self.centre):
            raise DataError(
                f"item features of {len(self.centre)} numbers per item were expected, but these have {width} "
                f"({' + '.join(str(matrix.shape[1]) for matrix in matrices)}). Compute them as those of the other items were."
            )
        joined = (np.concatenate(matrices, axis=1).astype(np.float32) - self.centre) / self.length
        if present is not None:
            start = 0
            for matrix, there in zip(matrices, present, strict=True):
                joined[~there, start : start + matrix.shape[1]] = 0
                start += matrix.shape[1]
        return joined


@dataclass(frozen=True, eq=False)
class Codebooks:
    """levels: L arrays float32 (K, D), the centroids that codes stand for; an item is the sum of its codes' centroids.

    scaling: how raw features are brought to the space of the centroids.
    """

    levels: list[np.ndarray]
    scaling: Scaling

    @property
    def sizes(self) -> tuple[int, ...]:
        """K of every level."""
        return tuple(len(level) for level in self.levels)

    @property
    def width(self) -> int:
        """D."""
        return self.levels[0].shape[1]

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it by name, for a file."""
        levels = {f"level_{level}": np.ascontiguousarray(book) for level, book in enumerate(self.levels)}
        return levels | {"centre": self.scaling.centre, "length": self.scaling.length}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> Codebooks:
        """What `tensors` gave. Raises KeyError or ValueError for anything else."""
        levels = [tensors[f"level_{level}"] for level in range(len(tensors) - 2)]
        books = cls(levels, Scaling(tensors["centre"], tensors["length"]))
        shapes = [book.shape for book in levels]
        if not levels or any(len(shape) != 2 or shape[1] != len(tensors["centre"]) for shape in shapes):
            raise ValueError(f"codebooks of the shapes {shapes} do not belong together")
        return books


def nearest_codes(features: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """The nearest code at every level given those before it: int32 (N, L); rows may repeat.

    Distances are taken around the middle of a codebook: the first holds the features' mean, which may be thousands of times as long as
    what tells items apart, and in float32 its square would drown them.
    """
    residual = np.array(features, dtype=np.float32)
    codes = np.empty((len(residual), len(codebooks)), dtype=np.int32)
    for level, codebook in enumerate(codebooks):
        middle = codebook.mean(axis=0)
        codes[:, level] = nearest(residual - middle, codebook - middle)
        residual -= codebook[codes[:, level]]
    return codes


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest of K centroids for each of N points, float32 (N, D) and (K, D) -> int64 (N,); the lower of equals."""
    half_lengths = (centroids**2).sum(axis=1) / 2
    found = np.empty(len(points), np.int64)
    points_a_pass = max(_SCORES_A_PASS // len(centroids), 1)
    for start in range(0, len(points), points_a_pass):
        part = slice(start, start + points_a_pass)
        scores = points[part] @ centroids.T
        scores -= half_lengths
        found[part] = scores.argmax(axis=1)
    return found
