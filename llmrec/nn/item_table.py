"""Item tokens next to a frozen vocabulary: their input and output embeddings are one small trained matrix."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class ItemTable(nn.Module):
    """R embeddings of width D. Row r is the input embedding of token `base_vocab_size + r`, and, scaled, its output embedding.

    Nothing of the base model's matrices is copied or trained, so a checkpoint holds R x D numbers whatever the vocabulary, and tied
    and untied backbones are the same. Logits of item tokens are `exp(log_scale) * hidden @ weight.T`.

    Attributes:
        weight: float32 (R, D), trained.
        log_scale: float32 (), trained; starts at log(4 / sqrt(D)), which gives logits of order one for a normalised hidden state.
        levels: int64 (R,), the level of each row's token (0 for unique ids; the code's position for semantic ids).
    """

    def __init__(self, levels: np.ndarray, dim: int, *, norm: float, dropout: float = 0.0, seed: int = 0):
        """`norm`: the mean length of the backbone's own embeddings, so that training starts calm; `dropout` acts on inputs."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(len(levels), dim, generator=generator)
        self.weight = nn.Parameter(F.normalize(rows, dim=1) * norm)
        self.log_scale = nn.Parameter(torch.tensor(math.log(4.0 / math.sqrt(dim))))
        self.dropout = dropout
        self.register_buffer("levels", torch.as_tensor(np.asarray(levels), dtype=torch.int64), persistent=False)
        # a level's rows are contiguous: starts[l] .. starts[l + 1]
        counts = torch.bincount(self.levels) if len(levels) else torch.zeros(0, dtype=torch.int64)
        self.starts = [0, *torch.cumsum(counts, 0).tolist()]
        assert torch.equal(self.levels, self.levels.sort().values), "rows must be ordered by level"

    @property
    def num_rows(self) -> int:
        """R."""
        return self.weight.shape[0]

    @property
    def num_levels(self) -> int:
        """How many levels the tokens belong to."""
        return len(self.starts) - 1

    @torch.no_grad()
    def initialise(self, features: np.ndarray, *, norm: float, seed: int = 0) -> None:
        """Set embedding r from its features: a random orthogonal map into the model's width, then length `norm`.

        An orthogonal map keeps angles, so items that are near in `features` start near in the model. Rows whose features are all zero
        (an item nobody touched) keep their random start.

        Args:
            features: float32 (R, F), any F; more than D dimensions are projected down.
        """
        features_t = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        if features_t.shape[0] != self.num_rows:
            raise ValueError(
                f"expected one row of features per item embedding ({self.num_rows}), got {features_t.shape[0]}"
            )
        width, dim = features_t.shape[1], self.weight.shape[1]
        generator = torch.Generator().manual_seed(seed)
        square = torch.randn(max(width, dim), max(width, dim), generator=generator)
        rotation = torch.linalg.qr(square).Q[:width, :dim]  # (F, D)
        rows = features_t @ rotation
        known = rows.norm(dim=1) > 0
        self.weight[known] = F.normalize(rows[known], dim=1) * norm

    @torch.no_grad()
    def place(self, rows: np.ndarray, neighbours: np.ndarray) -> None:
        """Set each of `rows`, int (C,), to the mean of its neighbours', int (C, M)."""
        self.weight[torch.as_tensor(rows)] = self.weight[torch.as_tensor(neighbours)].mean(dim=1)

    def input_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """rows int64 (...) -> float32 (..., D)."""
        return F.dropout(F.embedding(rows, self.weight), self.dropout, self.training)

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor | slice | None = None) -> torch.Tensor:
        """hidden (N, D) -> float32 (N, M): the logits of all R rows, of a slice of them, or of the rows named, int64 (M,)."""
        weight = self.weight if rows is None else self.weight[rows]
        return (hidden.float() @ weight.T) * self.log_scale.exp()

    def output_weight(self) -> torch.Tensor:
        """float32 (R, D): the output embeddings a plain language-model head would hold for the same logits."""
        return self.weight * self.log_scale.exp()
