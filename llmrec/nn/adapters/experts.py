"""A mixture-of-experts adapter: UniSRec's adaptor of text vectors, one mixture per feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MixtureOfExperts(nn.Module):
    """sum_k g_k (x - b_k) W_k with gates g = softmax(x W_g + noise) (UniSRec, Hou et al. 2022, eq. 1-4).

    Subtracting a trained mean and multiplying by a trained matrix is a parametric whitening (eq. 1): vectors of a frozen encoder
    crowd in a narrow cone, and each expert spreads them its own way.

    Attributes:
        means: float32 (K, H), the b_k; zero at the start.
    """

    def __init__(self, hidden_dim: int, num_experts: int, *, noisy: bool) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(num_experts, hidden_dim))
        self.experts = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim, bias=False) for _ in range(num_experts))
        self.gate = nn.Linear(hidden_dim, num_experts, bias=False)
        self.noise = nn.Linear(hidden_dim, num_experts, bias=False) if noisy else None

    def gates(self, x: Tensor) -> Tensor:
        """x (B, H) -> (B, K), each row summing to 1; noise, where asked for, only while training (eq. 3 and 4)."""
        logits = self.gate(x)
        if self.noise is not None and self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(self.noise(x))
        return logits.softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H) -> (B, H)."""
        outputs = torch.stack([expert(x - mean) for expert, mean in zip(self.experts, self.means, strict=True)], dim=1)
        return (self.gates(x).unsqueeze(-1) * outputs).sum(dim=1)
