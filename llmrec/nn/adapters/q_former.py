"""A Q-Former: a few learned queries ask an item's feature tokens and become its soft tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of queries over a source, (B, Q, H) and (B, S, H) -> (B, Q, H)."""

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key = nn.Linear(hidden_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, queries: Tensor, source: Tensor, is_seen: Tensor | None = None) -> Tensor:
        """is_seen: bool (B, S), at least one True per row: the source tokens that exist (None: all)."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, Q or S, H / heads)
            for part in (self.query(queries), self.key(source), self.value(source))
        )
        mask = None if is_seen is None else is_seen[:, None, None, :]  # (B, 1, 1, S)
        return self.out(F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2))


class QueryLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the features, feed-forward; each with its own norm before it."""

    def __init__(self, hidden_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(hidden_dim) for _ in range(3))
        self.self_attention = Attention(hidden_dim, num_heads)
        self.cross_attention = Attention(hidden_dim, num_heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_dim, 4 * hidden_dim), nn.GELU(), nn.Linear(4 * hidden_dim, hidden_dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, is_seen: Tensor) -> Tensor:
        """queries (B, Q, H), tokens (B, F, H), is_seen bool (B, F) -> (B, Q, H)."""
        normed = self.self_norm(queries)
        queries = queries + self.dropout(self.self_attention(normed, normed))
        queries = queries + self.dropout(self.cross_attention(self.cross_norm(queries), tokens, is_seen))
        return queries + self.dropout(self.feed_forward(self.feed_norm(queries)))


class QFormer(nn.Module):
    """Q learned queries and a stack of `QueryLayer`s: the Q-Former of BLIP-2 (Li et al. 2023, section 3.1) without its text side,
    reading one token per feature as EM3's Fusion-Q-Former does.

    Attributes:
        queries: float32 (Q, H), trained.
    """

    def __init__(self, num_queries: int, hidden_dim: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(num_queries, hidden_dim))
        self.token_norm = nn.LayerNorm(hidden_dim)
        self.layers = nn.ModuleList(QueryLayer(hidden_dim, num_heads, dropout) for _ in range(num_layers))

    def forward(self, tokens: Tensor, is_seen: Tensor) -> Tensor:
        """tokens (B, F, H), is_seen bool (B, F) with at least one True per row -> (B, Q, H)."""
        queries = self.queries.expand(len(tokens), -1, -1)
        tokens = self.token_norm(tokens)
        for layer in self.layers:
            queries = layer(queries, tokens, is_seen)
        return queries
