"""A soft prompt: trained vectors where a prompt's first words could stand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SoftPrompt(nn.Module):
    """n trained embeddings of width D, read as n tokens before the prompt (Lester et al. 2021).

    Attributes:
        weight: float32 (n, D), trained; what the model's first layer reads.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        norm: float,
        words: Tensor | None = None,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Starts at the embeddings of words, or at random.

        Args:
            norm: the mean length of the backbone's own embeddings, which random ones get.
            words: (W, D), W >= 1, the embeddings of a text's tokens, repeated or cut to n (Lester et al., section 3.1, found real words
                the better start); None: random embeddings.
        """
        super().__init__()
        if words is None:
            rows = torch.randn(num_tokens, dim, generator=torch.Generator().manual_seed(seed))
            start = F.normalize(rows, dim=1) * norm
        else:
            assert len(words) and words.shape[1] == dim, (words.shape, dim)
            start = words.detach().float().cpu()[torch.arange(num_tokens) % len(words)]
        self.weight = nn.Parameter(start)
        self.dropout = dropout

    @property
    def num_tokens(self) -> int:
        """n."""
        return self.weight.shape[0]

    def rows(self, indices: Tensor) -> Tensor:
        """indices int64 (...), each in [0, n) -> float32 (..., D)."""
        return F.dropout(F.embedding(indices, self.weight), self.dropout, self.training)
