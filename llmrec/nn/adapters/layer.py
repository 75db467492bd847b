"""A bottleneck adapter: a small trained detour after a frozen module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "layer_adapter"  # what it is called inside the module that it follows


class LayerAdapter(nn.Module):
    """x + up(gelu(down(x))), x (..., D) (Houlsby et al. 2019; after the MLP alone: Pfeiffer et al. 2021). The identity at first.

    Its matrices are no linear layers: what looks for a model's own, to put LoRA into them or to pack them, leaves these alone.

    Attributes:
        down: float32 (H, D). up: float32 (D, H), zero at the start.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float = 0.0, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(hidden_dim, dim, generator=generator) * dim**-0.5)
        self.down_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.up = nn.Parameter(torch.zeros(dim, hidden_dim))
        self.up_bias = nn.Parameter(torch.zeros(dim))
        self.dropout = dropout
        self.is_on = True

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., D) -> (..., D) in the dtype of x, whatever the adapter's own."""
        hidden = F.gelu(F.linear(x.to(self.down.dtype), self.down, self.down_bias))
        change = F.linear(F.dropout(hidden, self.dropout, self.training), self.up, self.up_bias)
        return x + change.to(x.dtype)


def put_after(module: nn.Module, adapter: LayerAdapter) -> None:
    """From now on `module` gives what the adapter makes of its output (of the first one, where there are several).

    The adapter becomes a part of the module, which keeps its class and the names of its own weights.
    """
    module.add_module(NAME, adapter)
    module.register_forward_hook(_adapt)


def _adapt(module: nn.Module, _: Any, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    adapter = module.get_submodule(NAME)
    assert isinstance(adapter, LayerAdapter)
    if not adapter.is_on:
        return output
    return (adapter(output[0]), *output[1:]) if isinstance(output, tuple) else adapter(output)
