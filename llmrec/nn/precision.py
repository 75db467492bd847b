"""In which precision a processor multiplies matrices of float32.

oneDNN makes code for every new shape that it multiplies in bfloat16, and keeps it: it pays for large products whose shape stays the
same from step to step, such as those over all items. Networks of sequences, whose number of positions changes, gain no time and
lose memory.

Letters: N rows, E and D widths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
_TORCH_S = {"float32": "ieee", "bfloat16": "bf16"}  # what torch calls them


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by instructions of its own (AMX, AVX-512 BF16), and so faster than float32."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@contextlib.contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Meanwhile, factors of matrix products on the processor are rounded to bfloat16, or not; sums and results are float32 in any case.

    A processor without such instructions goes on in float32.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = _TORCH_S[precision]
    try:
        yield
    finally:
        matmul.fp32_precision = before


class _Map(torch.autograd.Function):
    """`rounded_map`; autograd would multiply the gradients after the setting has been put back."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows)
        with products("bfloat16"):
            return rows @ weight.T

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        (rows,) = ctx.saved_tensors
        with products("bfloat16"):
            return None, gradient.T @ rows


def rounded_map(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """rows weight', the factors rounded to bfloat16: frozen rows float32 (N, E), weight float32 (D, E) -> float32 (N, D)."""
    return _Map.apply(rows, weight)
