"""A backbone made ready for answering requests on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.fused_layer import FusedLayer, agrees, can_fuse
from llmrec.backbones.packed_linear import PackedLinear, can_pack, packs
from llmrec.backbones.served_lora import merge_served


@torch.no_grad()
def pack(backbone: Backbone, *, head: bool = True) -> Backbone:
    """Makes the backbone ready for serving on a CPU: LoRA merged (float32 only, where merging does not round), its
    layers fused where their make is known, its other linear layers packed. In place and for good: it can be neither trained
    nor saved afterwards. On an accelerator, and for quantized layers, nothing changes.

    head: whether the vocabulary's head is packed too. It is often tied to the embedding, so this makes a second copy, which a
    model that scores item tokens alone, or words one by one, never reads.
    """
    if not can_pack(backbone.device):
        return backbone
    if backbone.quantize is None and backbone.dtype == torch.float32:
        merge_served(backbone)
        if backbone.peft is not None:
            backbone.peft.merge_and_unload()
            backbone.peft = None
    backbone.eval()
    if packs(backbone.dtype):
        _fuse(backbone)
    embedding = backbone.causal_lm.get_input_embeddings().weight
    last = backbone.causal_lm.get_output_embeddings()

    def is_plain(path: str, module: nn.Module) -> bool:
        # the exact class: quantized layers are subclasses with weights of their own; PEFT asks LoRA's for their dtype
        return type(module) is nn.Linear and "lora_" not in path and packs(module.weight.dtype)

    for parent, name in _places(backbone.causal_lm, is_plain):
        linear = parent.get_submodule(name)
        if head or linear is not last:
            setattr(parent, name, PackedLinear(linear, keep_rows=linear.weight is embedding))
    return backbone


def _fuse(backbone: Backbone) -> None:
    """Puts fused layers instead of those that they agree with."""
    places = _places(backbone.body, lambda _, module: can_fuse(module))
    for parent, name in places:
        layer = parent.get_submodule(name)
        fused = FusedLayer(layer)
        if (parent, name) == places[0] and not agrees(fused, layer):
            warnings.warn(
                f"{type(layer).__name__} of transformers {version('transformers')} computes something else than llmrec knows of it; "
                "it runs as it is, which is slower.",
                stacklevel=2,
            )
            return
        setattr(parent, name, fused)
    if places and len(places) == backbone.config.get_text_config(decoder=True).num_hidden_layers:
        parent, name = places[-1]
        backbone.last_layer = parent.get_submodule(name)


def _places(module: nn.Module, fits: Callable[[str, nn.Module], bool]) -> list[tuple[nn.Module, str]]:
    """Where the children stand that fit, as parent and name: the children themselves can go once others replace them."""
    return [
        (parent, name)
        for path, parent in module.named_modules()
        for name, child in parent.named_children()
        if fits(path, child)
    ]
