"""SASRec: what comes next in a sequence of items, by causal self-attention. Kang and McAuley, ICDM 2018.

Letters: B sequences, T positions of a sequence, D width, F fields of an item, N items.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from llmrec.nn.item_inputs import ItemInputs


class SasBlock(nn.Module):
    """Causal self-attention and a position-wise network, each with a layer norm before and a residual (paper, section III-B)."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.forward_net = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """x float32 (B, T, D); visible bool (B, 1, T, T): which position (last axis) each position may look at."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for part in self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)
        x = x + F.dropout(self.out(read.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return x + self.forward_net(self.forward_norm(x))


class SasRec(nn.Module):
    """Item sequences in, one state per position out; the score of an item is the state's inner product with the item's vector.

    An item's vector is the sum of its fields (`ItemInputs`: an embedding, projected frozen features, or both), the same as input and
    as answer, as in the paper. Positions are counted from the latest item, so that a sequence and its latest part agree about it.
    """

    def __init__(self, inputs: ItemInputs, *, max_length: int, num_layers: int, num_heads: int, dropout: float) -> None:
        """max_length: positions, the latest of a sequence."""
        super().__init__()
        dim = inputs.dim
        assert dim % num_heads == 0, (dim, num_heads)
        self.inputs, self.max_length, self.dropout = inputs, max_length, dropout
        self.places = nn.Parameter(torch.randn(max_length, dim) * dim**-0.5 * 0.5)
        self.blocks = nn.ModuleList(SasBlock(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)

    def item_vectors(self, items: torch.Tensor) -> torch.Tensor:
        """items int64 (...) -> float32 (..., D)."""
        return self.inputs(items).sum(dim=-2)

    def forward(self, items: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """States after each position, having seen it and those before it.

        items: int64 (B, T), T <= max_length, padded in front with any item; mask: bool (B, T), which positions are real.
        Returns float32 (B, T, D); those of padded positions mean nothing but are finite.
        """
        num_positions = items.shape[1]
        assert num_positions <= self.max_length, (num_positions, self.max_length)
        x = self.item_vectors(items) * self.inputs.dim**0.5 + self.places[self.max_length - num_positions :]
        x = F.dropout(x, self.dropout, self.training)
        causal = torch.ones(num_positions, num_positions, dtype=torch.bool, device=items.device).tril()
        itself = torch.eye(
            num_positions, dtype=torch.bool, device=items.device
        )  # a padded position would see nothing: NaN
        visible = (causal & mask[:, None, :]) | itself  # (B, T, T)
        for block in self.blocks:
            x = block(x, visible[:, None])
        return self.norm(x)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """states float32 (M, D) -> scores of all items float32 (M, N)."""
        everything = torch.arange(self.inputs.num_items, device=states.device)
        return states @ self.item_vectors(everything).T
