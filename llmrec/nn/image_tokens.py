"""Images in the token stream: the vision vectors of a catalogue's images, and where each stands in its image.

Letters: N items, P vision vectors of all images, L deep layers, D width, B rows, T tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageTokens(nn.Module):
    """P frozen vectors, made once by the model's own vision tower. Item i's image is the vectors offsets[i] .. offsets[i + 1].

    Attributes:
        vectors: (P, D), in the precision of the model; no part of a checkpoint.
        deep: (L, P, D), what is added to the hidden states of the first L layers at an image's tokens (Qwen3-VL; else L = 0).
        offsets: int64 (N + 1,), ascending; an item without an image has none.
        grids: int64 (N, 2), rows and columns of tokens of each image; their product is the number of its vectors.
        has_grid: the model's positions have three axes, and an image takes max(height, width) of them, whatever its tokens.
    """

    def __init__(
        self, vectors: Tensor, offsets: np.ndarray, grids: np.ndarray, *, deep: Tensor, has_grid: bool
    ) -> None:
        """See the attributes."""
        super().__init__()
        counts = np.diff(offsets)
        assert offsets[0] == 0 and offsets[-1] == len(vectors), (offsets[0], offsets[-1], len(vectors))
        assert (grids.prod(axis=1) == counts).all(), "an image has a vector for each cell of its grid"
        assert deep.shape[1:] == vectors.shape, (deep.shape, vectors.shape)
        self.offsets, self.grids = offsets, grids
        self.has_grid = has_grid
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("deep", deep, persistent=False)
        index = np.arange(len(vectors)) - np.repeat(offsets[:-1], counts)  # (P,), within the image
        width = np.repeat(grids[:, 1], counts)
        axes = np.stack([np.zeros_like(index), index // np.maximum(width, 1), index % np.maximum(width, 1)])
        shifts = np.zeros(len(vectors), np.int64)
        shifts[offsets[1:][counts > 0] - 1] = (grids.max(axis=1) - counts)[counts > 0]
        # (3, P): where a token stands on each axis, less where a word there would stand
        self.register_buffer("axes", torch.from_numpy(axes - index), persistent=False)
        # (P,): how far the tokens after an image move, written at its last token
        self.register_buffer("shifts", torch.from_numpy(shifts), persistent=False)

    @property
    def num_tokens(self) -> int:
        """P."""
        return len(self.vectors)

    def is_image(self, indices: Tensor) -> Tensor:
        """Which tokens are vision tokens: indices int64 (...), any numbers -> bool (...)."""
        return (indices >= 0) & (indices < self.num_tokens)

    def rows(self, indices: Tensor) -> Tensor:
        """indices int64 (...), each in [0, P) -> (..., D)."""
        return F.embedding(indices, self.vectors)

    def deep_rows(self, indices: Tensor) -> list[Tensor]:
        """indices int64 (M,) -> L tensors (M, D)."""
        return [layer[indices] for layer in self.deep]

    def moves(self, indices: Tensor) -> Tensor:
        """How far the images in a row move what stands after it: indices int64 (B, T) as below -> int64 (B,)."""
        if not self.has_grid:
            return torch.zeros(len(indices), dtype=torch.int64, device=indices.device)
        is_image = self.is_image(indices)
        return self.shifts[indices.masked_fill(~is_image, 0)].masked_fill(~is_image, 0).sum(dim=1)

    def rotary_positions(self, indices: Tensor, positions: Tensor, seen_until: Tensor | None = None) -> Tensor:
        """Positions in time, height and width (M-RoPE: Wang et al. 2024, Qwen2-VL, section 2.1).

        A word stands at one number on all axes. An image's tokens share their time, the number of its first token, and spread
        over height and width from there; what follows goes on after the larger of the two.

        Args:
            indices: int64 (B, T), the vector of each token; numbers outside of [0, P) are words, or other tokens of one position.
            positions: int64 (B, T), where the token would stand if all of these were words.
            seen_until: int64 (B, T), of packed sequences, one past each token's last descendant (llmrec.prompting.packing).

        Returns: int64 (3, B, T).
        """
        is_image = self.is_image(indices)
        indices = indices.masked_fill(~is_image, 0)
        shifts = self.shifts[indices].masked_fill(~is_image, 0)
        moves = F.pad(shifts, (1, 0))  # (B, T + 1): from the token after an image on
        if seen_until is not None:  # to the last token that sees it
            moves.scatter_add_(1, seen_until, -shifts)
        axes = self.axes[:, indices].masked_fill(~is_image, 0)  # (3, B, T)
        return positions + moves.cumsum(1)[:, :-1] + axes
