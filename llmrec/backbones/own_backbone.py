"""Loads what `pretrained` loads, without transformers, where the checkpoint is one that llmrec computes itself."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import torch

from llmrec.backbones.causal_lm import Backbone, LayerCount
from llmrec.backbones.decoder_files import fill, own_decoder
from llmrec.backbones.load import Weights, resolve
from llmrec.backbones.own_tokenizer import own_tokenizer
from llmrec.backbones.served_lora import fits


def own_backbone(
    name: str,
    *,
    weights: Weights = "wheel",
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: Literal["nf4"] | None = None,
    device: str | torch.device = "cpu",
    adapters: Collection[str] = (),
    lora: Path | None = None,
) -> Backbone | None:
    """`load_backbone` for a model that only answers; None for what has to go that way. Here alone it is decided which way a run goes.

    adapters: the parts that will be added, as a run's manifest names them; lora: the folder of a LoRA among them.

    This way go, on a CPU and not in 4 bits, Llama, Mistral, Qwen 2 and Qwen 3 as `decoder_files` and `own_tokenizer` know them, with
    or without a plain LoRA (`served_lora`) and last layers of their own. Raises what `resolve` does.
    """
    if str(device) != "cpu" or quantize is not None or not set(adapters) <= {"lora", "last_layers"}:
        return None
    source = resolve(name, weights=weights, revision=revision)
    folder = Path(source.path)  # or the hub's name for it, while the hub can be asked: then there is no such folder
    model = own_decoder(folder, num_layers)
    if model is None or (lora is not None and not fits(lora, model)):
        return None
    tokenizer = own_tokenizer(folder, model.config.model_type)
    if tokenizer is None:
        return None
    fill(model, folder, dtype)
    layers = LayerCount(model.config.num_hidden_layers, model.config.all_layers)
    return Backbone(model, tokenizer, source=source, layers=layers)
