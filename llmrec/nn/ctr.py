"""CTR models: the candidate's fields and the history's in, one logit per example out. They differ in how the two meet.

Letters: B examples, H history items, F fields of an item, E width of a field, C context numbers, W = width of all of it side by side.

All five share one call: `model(candidate, history, mask, context) -> logits (B,)`

| what | shape | dtype |
|---|---|---|
| candidate: the item asked about | (B, F, E) | float32 |
| history: what the user liked before; padded positions may hold anything finite | (B, H, F, E) | float32 |
| mask: which positions are real | (B, H) | bool |
| context: numbers about the example; C may be 0 | (B, C) | float32 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

ModelKind = Literal["dnn", "dcn_v2", "din", "autoint", "gdcn"]


def mean_of_history(history: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the real positions, zero where there are none: (B, H, F, E), bool (B, H) -> (B, F, E)."""
    weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)  # (B, H)
    return torch.einsum("bh,bhfe->bfe", weights.to(history.dtype), history.masked_fill(~mask[..., None, None], 0.0))


def perceptron(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """width -> hidden[0] -> ... -> hidden[-1], each linear, ReLU, dropout."""
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU(), nn.Dropout(dropout)]
        width = out
    return nn.Sequential(*layers)


class DNN(nn.Module):
    """Candidate, mean of the history and context side by side through a multilayer perceptron (Covington et al., RecSys 2016)."""

    def __init__(self, num_fields: int, dim: int, num_context: int, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.deep = perceptron(2 * num_fields * dim + num_context, hidden, dropout)
        self.out = nn.Linear(hidden[-1], 1)

    def forward(
        self, candidate: torch.Tensor, history: torch.Tensor, mask: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """See the module."""
        return self.out(self.deep(side_by_side(candidate, mean_of_history(history, mask), context)))[:, 0]


def side_by_side(candidate: torch.Tensor, interest: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """(B, F, E), (B, F, E), (B, C) -> (B, W)."""
    return torch.cat([candidate.flatten(1), interest.flatten(1), context], dim=1)


class CrossLayer(nn.Module):
    """x_next = x_0 * (W x + b) + x, all (B, W): every layer raises the degree of the crossed features by one.

    Wang et al., "DCN V2: Improved deep & cross network", WWW 2021, equation 1 (full rank).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """first: what the network began with; x: what the last layer gave."""
        return first * self.linear(x) + x


class GatedCrossLayer(nn.Module):
    """x_next = x_0 * (W x + b) * sigmoid(G x) + x, all (B, W): the gate lets through what of the next degree helps.

    Wang et al., "Towards deeper, lighter and interpretable cross network for CTR prediction", CIKM 2023, equation 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gate = nn.Linear(width, width, bias=False)

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See `CrossLayer`."""
        return first * self.linear(x) * torch.sigmoid(self.gate(x)) + x


class DCNv2(nn.Module):
    """Cross layers and, in parallel, a perceptron, both read by one linear layer (the parallel structure of DCN V2)."""

    layer: type[CrossLayer] | type[GatedCrossLayer] = CrossLayer

    def __init__(
        self, num_fields: int, dim: int, num_context: int, *, hidden: Sequence[int], dropout: float, num_layers: int
    ) -> None:
        super().__init__()
        width = 2 * num_fields * dim + num_context
        self.cross = nn.ModuleList(self.layer(width) for _ in range(num_layers))
        self.deep = perceptron(width, hidden, dropout)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width + hidden[-1], 1)

    def forward(
        self, candidate: torch.Tensor, history: torch.Tensor, mask: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """See the module."""
        first = crossed = side_by_side(candidate, mean_of_history(history, mask), context)  # (B, W)
        for layer in self.cross:
            crossed = layer(first, crossed)
        return self.out(torch.cat([self.dropout(crossed), self.deep(first)], dim=1))[:, 0]


class GDCN(DCNv2):
    """Gated cross layers in parallel with a perceptron (GDCN-P): DCNv2 with gates, that deep crosses may do no harm."""

    layer = GatedCrossLayer


class DIN(nn.Module):
    """The history is summed with weights that depend on the candidate, then read as by DNN.

    A small network gives each history item h, given candidate c, the weight a(h, c, h - c, h * c); the weights are not normalised, so
    that their sum says how strong the interest is. Zhou et al., "Deep interest network", KDD 2018, equation 3. Here the sum is
    divided by the history's length (histories of 1 and of 20 then start alike), and ReLU and PReLU stand in for Dice, whose batch
    statistics would make an example depend on its batch.
    """

    def __init__(self, num_fields: int, dim: int, num_context: int, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        width = num_fields * dim
        self.attention = nn.Sequential(nn.Linear(4 * width, 32), nn.PReLU(), nn.Linear(32, 1))
        self.deep = perceptron(2 * width + num_context, hidden, dropout)
        self.out = nn.Linear(hidden[-1], 1)

    def weights(self, candidate: torch.Tensor, history: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """float32 (B, H), zero at padded positions."""
        h = history.flatten(2)  # (B, H, F * E)
        c = candidate.flatten(1)[:, None].expand_as(h)
        weights = self.attention(torch.cat([h, c, h - c, h * c], dim=2))[..., 0] + 1.0  # starts as the plain mean
        return weights.masked_fill(~mask, 0.0) / mask.sum(dim=1, keepdim=True).clamp(min=1)

    def forward(
        self, candidate: torch.Tensor, history: torch.Tensor, mask: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """See the module."""
        weights = self.weights(candidate, history, mask)
        interest = torch.einsum("bh,bhfe->bfe", weights, history.masked_fill(~mask[..., None, None], 0.0))
        return self.out(self.deep(side_by_side(candidate, interest, context)))[:, 0]


class FieldAttention(nn.Module):
    """Multi-head self-attention over fields, with a linear residual and ReLU: (B, M, E) -> (B, M, E).

    Song et al., "AutoInt", CIKM 2019, equations 5 to 8.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        assert dim % num_heads == 0, (dim, num_heads)
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.residual = nn.Linear(dim, dim, bias=False)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """(B, M, E) -> (B, M, E)."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, M, E / heads)
            for part in self.query_key_value(fields).chunk(3, dim=-1)
        )
        weights = (q @ k.transpose(-1, -2)).softmax(dim=-1)  # the paper does not scale
        return torch.relu((weights @ v).transpose(1, 2).flatten(2) + self.residual(fields))


class AutoInt(nn.Module):
    """Self-attention among the candidate's fields, the history's and the context, in parallel with a perceptron (AutoInt+)."""

    def __init__(
        self,
        num_fields: int,
        dim: int,
        num_context: int,
        *,
        hidden: Sequence[int],
        dropout: float,
        num_layers: int,
        num_heads: int = 2,
    ) -> None:
        super().__init__()
        # which field it is: pooled history and candidate share their vectors, and attention has no order
        self.roles = nn.Parameter(torch.randn(2 * num_fields, dim) * 0.05)
        self.context = nn.Linear(num_context, dim) if num_context else None
        self.attention = nn.ModuleList(FieldAttention(dim, num_heads) for _ in range(num_layers))
        self.deep = perceptron(2 * num_fields * dim + num_context, hidden, dropout)
        self.dropout = nn.Dropout(dropout)
        num_tokens = 2 * num_fields + (num_context > 0)
        self.out = nn.Linear(num_tokens * dim + hidden[-1], 1)

    def forward(
        self, candidate: torch.Tensor, history: torch.Tensor, mask: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """See the module."""
        interest = mean_of_history(history, mask)
        fields = torch.cat([candidate, interest], dim=1) + self.roles  # (B, 2 F, E)
        if self.context is not None:
            fields = torch.cat([fields, self.context(context)[:, None]], dim=1)
        for layer in self.attention:
            fields = layer(fields)
        deep = self.deep(side_by_side(candidate, interest, context))
        return self.out(torch.cat([self.dropout(fields.flatten(1)), deep], dim=1))[:, 0]


def make_ctr_net(
    kind: ModelKind,
    num_fields: int,
    dim: int,
    num_context: int,
    *,
    hidden: Sequence[int],
    dropout: float,
    num_layers: int,
) -> DNN | DCNv2 | DIN | AutoInt:
    """The model of that name; num_layers counts cross or attention layers."""
    shape = (num_fields, dim, num_context)
    if kind in ("dnn", "din"):
        return (DIN if kind == "din" else DNN)(*shape, hidden=hidden, dropout=dropout)
    of_layers = {"dcn_v2": DCNv2, "gdcn": GDCN, "autoint": AutoInt}[kind]
    return of_layers(*shape, hidden=hidden, dropout=dropout, num_layers=num_layers)
