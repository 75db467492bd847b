"""Vector tokens: tokens whose input vectors are made outside the vocabulary, and the one place where they are put in.

An id of the token stream is a word of the vocabulary, an item token, or, from V + R on, a vector token: the soft tokens
that an adapter makes of an item's features, an item's image as the model's own vision tokens, a soft prompt. To prompts,
caches, packing and beams they are ids like any other; `Backbone.embed` looks their vectors up here and splices them in.

Letters: S vector tokens, P of them asked for, D width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class VectorSource(Protocol):
    """A module that makes the vectors of `num_tokens` vector tokens."""

    num_tokens: int

    def rows(self, indices: Tensor) -> Tensor:
        """indices int64 (P,), each in [0, num_tokens) -> float (P, D), as the model's first layer reads them."""


class VectorTokens(nn.Module):
    """Sources by name, their tokens numbered one source after the other. Sources are added before any prompt is made."""

    def __init__(self) -> None:
        super().__init__()
        self.sources = nn.ModuleDict()

    @property
    def num_tokens(self) -> int:
        """S."""
        return sum(source.num_tokens for source in self.sources.values())

    def __contains__(self, name: str) -> bool:
        return name in self.sources

    def __getitem__(self, name: str) -> nn.Module:
        return self.sources[name]

    def add(self, name: str, source: nn.Module) -> None:
        """Puts a source after those there are. source: a `VectorSource`."""
        assert name not in self.sources, f"there are vector tokens called {name} already"
        self.sources[name] = source

    def start(self, name: str) -> int:
        """The number of the source's first token, counted from V + R."""
        names = list(self.sources)
        return sum(self.sources[earlier].num_tokens for earlier in names[: names.index(name)])

    def unread(self, indices: Tensor) -> Tensor:
        """The first token of each source that is trained and has none among `indices` int64 (P,): int64 (at most one per source,)."""
        firsts = []
        for name, source in self.sources.items():
            start = self.start(name)
            is_read = (indices >= start) & (indices < start + source.num_tokens)
            if any(parameter.requires_grad for parameter in source.parameters()) and not bool(is_read.any()):
                firsts.append(start)
        return torch.tensor(firsts, dtype=torch.int64, device=indices.device)

    def rows(self, indices: Tensor) -> Tensor:
        """indices int64 (P,), each in [0, S) -> float32 (P, D)."""
        if len(self.sources) == 1:
            return next(iter(self.sources.values())).rows(indices).float()
        order, parts = [], []
        for name, source in self.sources.items():
            start = self.start(name)
            mine = torch.nonzero((indices >= start) & (indices < start + source.num_tokens)).flatten()
            if len(mine):
                order.append(mine)
                parts.append(source.rows(indices[mine] - start).float())
        return torch.cat(parts)[torch.cat(order).argsort()]


def splice(embeddings: Tensor, is_vector: Tensor, vectors: Tensor) -> Tensor:
    """The embeddings with vectors at the positions marked: embeddings (B, T, D), is_vector bool (B, T) with P of them true, vectors
    (P, D) in reading order. Gradients flow into both."""
    return embeddings.index_put(torch.nonzero(is_vector, as_tuple=True), vectors.to(embeddings.dtype))
