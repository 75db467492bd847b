"""Linear layers whose weights lie in the order oneDNN's kernels read them: faster inference on a processor, same numbers.

torch multiplies float32 through the BLAS it was built with, which reorders the weights in every call and on some processors
uses narrower instructions than it could; for the few rows of a decoding step the reordering costs as much as the product.
Packed once, products take about half the time at any number of rows (measured in docs/speed.md). These are the operators
torch's own compiler uses for frozen models. Gradients do not pass, and a packed weight cannot be saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ModelError

_GONE = "this model was packed for serving, and its weights can no longer be saved or copied; load the run anew."
_ROWS = 64  # the number of rows the layout is chosen for; others run in it as well


def can_pack(backbone: Backbone) -> bool:
    """Whether its weights lie where these operators work, and this torch has them."""
    has_operators = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return backbone.device.type == "cpu" and has_operators


def _packs(dtype: torch.dtype) -> bool:
    """bfloat16 needs instructions that not every processor has."""
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed(weight: Tensor) -> Tensor:
    """A copy of weight (out, in) in the order the kernels read it; good for `product` alone."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)


def product(x: Tensor, packed_weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b. x: (..., in) in the weight's dtype, bias (out,) -> (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(x, packed_weight, bias, "none", [], "")


class PackedLinear(nn.Module):
    """y = x W^T + b for a weight packed once. x: (..., in_features) -> (..., out_features) in the weight's dtype."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self._packed = packed(linear.weight)
        self._bias = None if linear.bias is None else linear.bias.detach()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return product(x.to(self.dtype), self._packed, self._bias)

    def _save_to_state_dict(self, *_: object) -> None:
        raise ModelError(_GONE)

    def __deepcopy__(self, _: dict) -> PackedLinear:
        raise ModelError(_GONE)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{self.in_features}, {self.out_features}, bias={self._bias is not None}"


@torch.no_grad()
def pack(backbone: Backbone, *, head: bool = True) -> Backbone:
    """Makes the backbone ready for serving on a processor: LoRA merged (float32 only, where merging does not round), its
    linear layers packed. In place and for good: it can be neither trained nor saved afterwards. On an accelerator, and for
    quantized layers, nothing changes.

    head: whether the vocabulary's head is packed too. It is often tied to the embedding, so this makes a second copy, which a
    model that scores item tokens alone never reads.
    """
    if not can_pack(backbone):
        return backbone
    if backbone.peft is not None and backbone.quantize is None and backbone.dtype == torch.float32:
        backbone.peft.merge_and_unload()
        backbone.peft = None
    last = backbone.causal_lm.get_output_embeddings()
    for path, parent in list(backbone.causal_lm.named_modules()):
        for name, child in parent.named_children():
            # the exact class: quantized layers are subclasses with weights of their own; PEFT asks LoRA's for their dtype
            is_plain = type(child) is nn.Linear and "lora_" not in path
            if is_plain and _packs(child.weight.dtype) and (head or child is not last):
                setattr(parent, name, PackedLinear(child))
    return backbone.eval()
