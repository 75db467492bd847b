"""Linear layers whose weights lie in the order oneDNN's kernels read them: faster inference on a CPU, same numbers.

torch multiplies float32 through the BLAS it was built with, which reorders the weights in every call and on some CPUs
uses narrower instructions than it could; for the few rows of a decoding step the reordering costs as much as the product.
Packed once, products of few rows are spared that, and where the instructions are narrower (`blas_is_narrow`) all take about half
the time (measured in docs/speed.md). These are the operators
torch's own compiler uses for frozen models. Gradients do not pass, and a packed weight cannot be saved.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from llmrec.errors import ModelError

_ROWS = 64  # the number of rows the layout is chosen for; others run in it as well


def can_pack(device: torch.device) -> bool:
    """Whether weights there can be packed: on a CPU, and by a torch that has the operators."""
    has_operators = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return device.type == "cpu" and has_operators


def packs(dtype: torch.dtype) -> bool:
    """bfloat16 needs instructions that not every CPU has."""
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def blas_is_narrow() -> bool:
    """Whether torch's BLAS leaves half of the CPU unused: MKL takes AVX-512 on Intel's CPUs alone.

    There packing halves the time of large products too; elsewhere it saves the reordering only, which matters little in large products.
    """
    has_mkl = torch.backends.mkl.is_available()
    return has_mkl and torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"


@functools.cache
def _vendor() -> str:
    """The CPU's vendor as it calls itself; empty where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def packed(weight: Tensor) -> Tensor:
    """A copy of weight (out, in) in the order the kernels read it; good for `product` alone."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)


def product(x: Tensor, packed_weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b. x: (..., in) in the weight's dtype, bias (out,) -> (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(x, packed_weight, bias, "none", [], "")


def refuse_saving() -> NoReturn:
    """Raises ModelError: for modules whose weights are packed."""
    raise ModelError(
        "this model was packed for serving, and its weights can no longer be saved or copied; load the run anew."
    )


class PackedLinear(nn.Module):
    """y = x W^T + b for a weight packed once. x: (..., in_features) -> (..., out_features) in the weight's dtype.

    rows: the weight as it was, (out_features, in_features), where something else holds it anyway; else None.
    """

    def __init__(self, linear: nn.Linear, *, keep_rows: bool = False) -> None:
        """keep_rows: the weight is also an embedding, say, and stays where it is."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self._packed = packed(linear.weight)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.rows = linear.weight.detach() if keep_rows else None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return product(x.to(self.dtype), self._packed, self.bias)

    @torch.no_grad()
    def silu(self, x: Tensor) -> Tensor:
        """silu(y); y / (1 + exp(-y))."""
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "swish", [], "")

    @torch.no_grad()
    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """y + other (..., out_features)."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._packed, self.bias, "add")

    @torch.no_grad()
    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """y * other (..., out_features)."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._packed, self.bias, "mul")

    def _save_to_state_dict(self, *_: object) -> None:
        refuse_saving()

    def __deepcopy__(self, _: dict) -> PackedLinear:
        refuse_saving()

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
