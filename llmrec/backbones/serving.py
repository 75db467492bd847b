"""A backbone made ready for answering requests on a processor."""

from __future__ import annotations

import torch
from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.fused_layer import FusedLayer, can_fuse
from llmrec.backbones.packed_linear import PackedLinear, can_pack, packs


@torch.no_grad()
def pack(backbone: Backbone, *, head: bool = True) -> Backbone:
    """Makes the backbone ready for serving on a processor: LoRA merged (float32 only, where merging does not round), its
    layers fused where their make is known, its other linear layers packed. In place and for good: it can be neither trained
    nor saved afterwards. On an accelerator, and for quantized layers, nothing changes.

    head: whether the vocabulary's head is packed too. It is often tied to the embedding, so this makes a second copy, which a
    model that scores item tokens alone, or words one by one, never reads.
    """
    if not can_pack(backbone.device):
        return backbone
    if backbone.peft is not None and backbone.quantize is None and backbone.dtype == torch.float32:
        backbone.peft.merge_and_unload()
        backbone.peft = None
    embedding = backbone.causal_lm.get_input_embeddings().weight
    last = backbone.causal_lm.get_output_embeddings()
    if packs(backbone.dtype):
        for parent in list(backbone.body.modules()):
            for name, child in parent.named_children():
                if can_fuse(child):
                    setattr(parent, name, FusedLayer(child))
        fused = [module for module in backbone.body.modules() if isinstance(module, FusedLayer)]
        if fused and len(fused) == backbone.config.get_text_config(decoder=True).num_hidden_layers:
            backbone.last_layer = fused[-1]
    for path, parent in list(backbone.causal_lm.named_modules()):
        for name, child in parent.named_children():
            # the exact class: quantized layers are subclasses with weights of their own; PEFT asks LoRA's for their dtype
            is_plain = type(child) is nn.Linear and "lora_" not in path
            if is_plain and packs(child.weight.dtype) and (head or child is not last):
                setattr(parent, name, PackedLinear(child, keep_rows=child.weight is embedding))
    return backbone.eval()
