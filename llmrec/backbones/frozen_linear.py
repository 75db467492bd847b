"""Linear layers that are not trained, with their weights in the order oneDNN's kernels read them, for both directions.

A LoRA step multiplies by every frozen matrix twice: forward, and backward to the inputs. Its products are large, so the copies pay
off only where torch's BLAS is slow at those (`blas_is_narrow`): there a step takes 60 to 70 % of the time; on an Intel machine
with AVX-512 it took 98 to 105 %. Training needs a matrix both ways, so a layer holds two more copies of it while it is
packed: one for y = x W^T, one for dx = dy W. The layers come back as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.packed_linear import blas_is_narrow, can_pack, packed, product

_MEMORY_SHARE = 8  # copies take at most this part of the machine's memory


class _Product(torch.autograd.Function):
    """y = x W^T + b, and dx = dy W. Nothing is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return product(gradient, ctx.transposed, None), None, None, None


class FrozenLinear(nn.Module):
    """What `linear` computes, for a float32 weight that does not change while this stands for it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias  # the very parameters, under their own names
        self._packed, self._transposed = packed(linear.weight), packed(linear.weight.T)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 (..., in_features) -> (..., out_features)."""
        return _Product.apply(x, self._packed, self._transposed, self.bias)


@contextmanager
def frozen_weights_packed(backbone: Backbone) -> Iterator[None]:
    """While open, the transformer's frozen float32 linear layers run packed, with or without LoRA around them.

    Changes nothing on an accelerator, where torch's own products are as fast, for other dtypes, for layers that are trained, where
    torch lacks the operators, and where the copies would take more than an eighth of the machine's memory. Results differ by
    rounding only.
    """
    layers = [
        (parent, name, child)
        for parent in backbone.body.modules()
        for name, child in parent.named_children()
        # the exact class: quantized layers are subclasses with weights of their own
        if type(child) is nn.Linear
        and child.weight.dtype == torch.float32
        and not any(parameter.requires_grad for parameter in child.parameters())
    ]
    copies = sum(2 * linear.weight.nbytes for _, _, linear in layers)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not can_pack(backbone.device) or not blas_is_narrow() or copies > memory // _MEMORY_SHARE:
        yield
        return
    for parent, name, linear in layers:
        setattr(parent, name, FrozenLinear(linear))
    try:
        yield
    finally:
        for parent, name, linear in layers:
            setattr(parent, name, linear)
