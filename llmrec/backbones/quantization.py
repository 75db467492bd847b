"""4-bit loading by bitsandbytes, with a trap closed that makes QLoRA on some CPUs train nothing."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from llmrec.errors import ModelError


def nf4_config(compute_dtype: torch.dtype) -> Any:
    """The NF4 configuration of QLoRA (Dettmers et al. 2023): double quantisation, computing in `compute_dtype`."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("quantize: nf4 needs bitsandbytes, which is not installed; run `pip install llmrec[quant]`.")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def close_cpu_trap(model: nn.Module) -> int:
    """Forbids the AVX512-BF16 repacking of every 4-bit layer; returns how many layers there are.

    bitsandbytes repacks NF4 weights in place on such CPUs during any forward in evaluation mode, and a backward through repacked
    weights gives gradients of exactly zero: validating once, or forgetting `train()`, would end all learning without a word.
    """
    import bitsandbytes as bnb

    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
