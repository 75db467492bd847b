"""Loads a language model into a `Backbone`: all of a checkpoint, its first layers, in 4 bits, or a random one of its family."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
import transformers
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from llmrec.backbones.causal_lm import Backbone, LayerCount
from llmrec.backbones.load import ModelSource, Weights, load_tokenizer, resolve
from llmrec.backbones.model_files import check_complete, check_size, loading
from llmrec.backbones.quantization import close_cpu_trap, nf4_config
from llmrec.errors import ModelError


def load_backbone(
    name: str,
    *,
    weights: Weights = "wheel",
    revision: str | None = None,
    num_layers: int | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: Literal["nf4"] | None = None,
    device: str | torch.device = "cpu",
) -> Backbone:
    """Loads a language model by folder, wheel or hub name, all of it or its first `num_layers` layers.

    A vision-language model comes with its vision tower, whole and frozen; the layers counted are those of its language tower.

    `revision`: of a model on the hub, a branch, tag or commit.

    Raises:
        ModelError: the name leads nowhere, the folder is no language model, or `num_layers` is more than it has.
    """
    source = resolve(name, weights=weights, revision=revision)
    arguments: dict[str, Any] = {"dtype": dtype, **source.loading}
    if quantize == "nf4":
        arguments |= {"quantization_config": nf4_config(dtype), "device_map": {"": str(device)}}
    with loading(f"a causal or vision-language model in {source.name!r} ({source.source})"), _quiet_transformers():
        config = AutoConfig.from_pretrained(source.path, **source.loading)
        config, layers = _first_layers(config, num_layers)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        check_size(auto_class, config, source.path, source.name)
        model, found = auto_class.from_pretrained(
            source.path, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
        check_complete(found, source.name)
        if quantize != "nf4":
            model.to(device)
    if quantize == "nf4":
        close_cpu_trap(model)
    tokenizer = load_tokenizer(name, weights=weights, revision=revision)
    return Backbone(model, tokenizer, source=source, layers=layers, quantize=quantize)


def _first_layers(config: Any, num_layers: int | None) -> tuple[Any, LayerCount]:
    total = config.get_text_config(decoder=True).num_hidden_layers
    if num_layers is None:
        return config, LayerCount(total, total)
    if not 1 <= num_layers <= total:
        raise ModelError(f"expected num_layers between 1 and {total}, what this checkpoint has; got {num_layers}.")
    config = copy.deepcopy(config)
    text = config.get_text_config(decoder=True)
    text.num_hidden_layers = num_layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:num_layers]
    return config, LayerCount(num_layers, total)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silences the report on layers left out: `LayerCount` says it in one line."""
    verbosity, has_bar = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if has_bar:
            transformers.logging.enable_progress_bar()


def random_backbone(
    name: str,
    *,
    weights: Weights = "wheel",
    dtype: torch.dtype = torch.float32,
    seed: int,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    dropout: float,
) -> Backbone:
    """A small decoder of the named model's family with random weights and its tokenizer, to measure what pretraining adds.

    `dropout` acts on attention weights, where the family has it.
    """
    source = resolve(name, weights=weights)
    with loading(f"the configuration of a language model in {source.name!r} ({source.source})"):
        config = AutoConfig.from_pretrained(source.path, **source.loading)
    config.update({
        "hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads, "num_key_value_heads": num_heads, "head_dim": hidden_size // num_heads,
        "attention_dropout": dropout, "dtype": dtype,
    })  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    origin = ModelSource(f"random {config.model_type}", "scratch", source.path, f"seed {seed}")
    return Backbone(
        model, load_tokenizer(name, weights=weights), source=origin, layers=LayerCount(num_layers, num_layers)
    )
