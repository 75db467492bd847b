"""The layers of a language model, by its own structure: to add adapters after their parts, or to train the last of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ModelError
from llmrec.nn.adapters.layer import LayerAdapter, put_after

LayerPart = Literal["attention", "mlp"]


def decoder_layers(backbone: Backbone) -> list[nn.Module]:
    """The decoder layers, first to last; of a vision-language model, those of its language tower.

    Raises ModelError for a model that does not keep them in one list.
    """
    count = backbone.config.get_text_config(decoder=True).num_hidden_layers
    children = backbone.causal_lm.get_decoder().children()
    lists = [child for child in children if isinstance(child, nn.ModuleList) and len(child) == count]
    if len(lists) != 1:
        raise ModelError(
            f"expected {type(backbone.causal_lm).__name__} to keep its {count} layers in one list, found {len(lists)} such lists; "
            "train another part of it, such as lora."
        )
    return list(lists[0])


def layer_parts(layer: nn.Module) -> dict[LayerPart, nn.Module]:
    """The attention of a decoder layer, and its MLP, or experts.

    Both are the children that hold matrices (norms hold none), and by the custom of transformers the attention's class is called so.
    Raises ModelError for a layer of other parts.
    """
    parts = [child for child in layer.children() if any(p.ndim > 1 for p in child.parameters())]
    attention = [part for part in parts if type(part).__name__.endswith("Attention")]
    if len(parts) != 2 or len(attention) != 1:
        raise ModelError(
            f"expected a {type(layer).__name__} of one attention and one MLP, found "
            f"{', '.join(type(part).__name__ for part in parts) or 'neither'}; train another part than layer_adapter, such as lora."
        )
    return {"attention": attention[0], "mlp": next(part for part in parts if part is not attention[0])}


def add_layer_adapters(
    backbone: Backbone,
    *,
    hidden_dim: int,
    after: Sequence[LayerPart] = ("attention", "mlp"),
    dropout: float = 0.0,
    seed: int = 0,
) -> None:
    """Adds a bottleneck adapter of `hidden_dim` numbers after the attention, the MLP, or both, of every decoder layer.

    Float32 whatever the frozen part's precision. LoRA may be there before or come after. Raises ModelError where the layers are of
    another make, or have adapters already.
    """
    if layer_adapters(backbone):
        raise ModelError("this backbone has layer adapters already; load it anew for others.")
    generator = torch.Generator().manual_seed(seed)
    for layer in decoder_layers(backbone):
        parts = layer_parts(layer)
        for part in after:
            adapter = LayerAdapter(backbone.dim, hidden_dim, dropout=dropout, generator=generator)
            device = next(parts[part].parameters()).device
            put_after(parts[part], adapter.to(device).train(backbone.training))


def layer_adapters(backbone: Backbone) -> list[LayerAdapter]:
    """All of them, first layer first."""
    return [module for module in backbone.causal_lm.modules() if isinstance(module, LayerAdapter)]
