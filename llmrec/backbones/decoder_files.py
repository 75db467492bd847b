"""Checkpoints that `decoder` computes: which they are, and how they are read.

The rule is strict: every setting in config.json is known here, and has a value that the decoder's function knows; every tensor
has the name, the shape and a dtype that it expects. Whatever else stands there, the checkpoint is transformers' to read, or to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from llmrec.backbones.decoder import DecoderConfig, Llama3Rope, OwnCausalLM
from llmrec.backbones.model_files import MAX_LAYERS
from llmrec.errors import LlmrecError
from llmrec.files import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# For each model type: its class, what it says of bias in q, k and v, in o, and in the MLP (a setting's name, or a constant), whether
# heads are normed, and transformers' defaults where config.json leaves something out.
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"architecture": "LlamaForCausalLM", "qkv": "attention_bias", "o": "attention_bias", "mlp": "mlp_bias", "normed": False},
    "mistral": {"architecture": "MistralForCausalLM", "qkv": False, "o": False, "mlp": False, "normed": False},
    "qwen2": {"architecture": "Qwen2ForCausalLM", "qkv": True, "o": False, "mlp": False, "normed": False},
    "qwen3": {"architecture": "Qwen3ForCausalLM", "qkv": "attention_bias", "o": "attention_bias", "mlp": False, "normed": True},
}  # fmt: skip
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
# Settings that change nothing of what a prompt's states are.
_IDLE = frozenset({
    "_model_name_or_path", "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
    "initializer_range", "max_window_layers", "model_type", "pad_token_id", "pretraining_tp", "torch_dtype",
    "transformers.js_config", "transformers_version", "unk_token_id", "use_cache",
})  # fmt: skip
_READ = frozenset({
    *_SIZES, "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_parameters", "rope_scaling",
    "sliding_window", "tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window", "layer_types", "rope_interleaved",
    "is_llama_config",
})  # fmt: skip
_UNREAD_WEIGHTS = re.compile(
    r"model\.layers\.(?P<layer>\d+)\..+|model(\.layers\.\d+\.self_attn)?\.rotary_emb\.inv_freq"
)
_LARGEST = 1 << 20  # size of anything: more words, or positions, no model has
_DTYPES = ("F32", "F16", "BF16")


def own_decoder(folder: Path, num_layers: int | None) -> OwnCausalLM | None:
    """The decoder of a checkpoint's first layers (None: all), without its weights; None where transformers has to read it."""
    config = _config(folder, num_layers)
    if config is None or not (folder / WEIGHTS).is_file():
        return None
    model = OwnCausalLM(config)
    return model if _has_weights(folder / WEIGHTS, model) else None


def fill(model: OwnCausalLM, folder: Path, dtype: torch.dtype) -> None:
    """Puts the checkpoint's weights into what `own_decoder` gave for it."""
    tied = model.config.tie_word_embeddings
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        weights = {name: file.get_tensor(name).to(dtype, copy=True) for name in _wanted(model)}  # no view of the file
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.requires_grad_(False).eval()


def _wanted(model: OwnCausalLM) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors that the model needs of its file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


def _has_weights(path: Path, model: OwnCausalLM) -> bool:
    """Whether the file holds exactly the model's tensors, besides those of later layers."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
            dtypes = {each.get_dtype() for each in slices.values()}
    except (OSError, SafetensorError):  # transformers' way says what is wrong with it
        return False
    wanted = _wanted(model)
    others = [_UNREAD_WEIGHTS.fullmatch(name) for name in shapes.keys() - wanted.keys()]
    used = model.config.num_hidden_layers
    is_known = all(match and (match["layer"] is None or int(match["layer"]) >= used) for match in others)
    return is_known and dtypes <= set(_DTYPES) and {name: shapes.get(name) for name in wanted} == wanted


def _config(folder: Path, num_layers: int | None) -> DecoderConfig | None:
    """What config.json says, where all of it is known."""
    try:
        said = read_json(folder / CONFIG)
    except LlmrecError:
        return None
    family = next((family for name, family in _FAMILIES.items() if said.get("model_type") == name), None)
    if family is None or said.get("architectures") != [family["architecture"]] or not said.keys() <= _IDLE | _READ:
        return None
    said = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu", **said}
    is_plain = said["hidden_act"] == "silu" and not said.get("rope_interleaved") and _window_is_plain(said)
    sizes = {name: said.get(name) for name in (*_SIZES, "max_position_embeddings")}
    sizes["head_dim"] = said.get("head_dim") or _head_dim(said)
    numbers = all(type(size) is int and 0 < size <= _LARGEST for size in sizes.values())
    flags = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window")
    truths = all(type(said.get(flag, False)) is bool for flag in flags)
    rope = _rope(said, sizes["max_position_embeddings"])
    if not (is_plain and numbers and truths and type(said["rms_norm_eps"]) is float and rope is not None):
        return None
    if sizes["num_attention_heads"] % sizes["num_key_value_heads"] or sizes["head_dim"] % 2:
        return None
    all_layers = sizes["num_hidden_layers"]
    if all_layers > MAX_LAYERS:
        return None
    if num_layers is not None:
        if not 1 <= num_layers <= all_layers:
            return None
        sizes["num_hidden_layers"] = num_layers
    biases = {
        name: said.get(family[part], False) if isinstance(family[part], str) else family[part]
        for name, part in (("qkv_bias", "qkv"), ("o_bias", "o"), ("mlp_bias", "mlp"))
    }
    return DecoderConfig(
        model_type=said["model_type"],
        all_layers=all_layers,
        rms_norm_eps=said["rms_norm_eps"],
        rope_theta=rope[0],
        rope_scaling=rope[1],
        sliding_window=said.get("sliding_window") if said["model_type"] == "mistral" else None,
        tie_word_embeddings=said["tie_word_embeddings"],
        normed_heads=family["normed"],
        **sizes,
        **biases,
    )


def _head_dim(said: Mapping[str, Any]) -> int | None:
    """transformers' default; Qwen3's is a constant of no use to us, so that it has to be said."""
    width, heads = said.get("hidden_size"), said.get("num_attention_heads")
    if said["model_type"] == "qwen3" or type(width) is not int or type(heads) is not int or heads < 1 or width % heads:
        return None
    return width // heads


def _window_is_plain(said: Mapping[str, Any]) -> bool:
    """Mistral's layers all have one window or none; the others' have none that is used."""
    window = said.get("sliding_window")
    if said["model_type"] == "mistral":
        # left out, it would be transformers' default
        return (
            "sliding_window" in said
            and "layer_types" not in said
            and (window is None or (type(window) is int and window > 0))
        )
    kinds = said.get("layer_types") or ["full_attention"]
    is_full = isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)
    return not said.get("use_sliding_window", False) and is_full


def _rope(said: Mapping[str, Any], max_positions: Any) -> tuple[float, Llama3Rope | None] | None:
    """The base of the angles, and how they are scaled; None for a scaling other than Llama 3's, or a base that is not said.

    Since transformers 5 all of it stands in rope_parameters; before, in rope_theta and rope_scaling.
    """
    old = said.get("rope_scaling") or {}
    if not isinstance(old, dict) or ("rope_parameters" in said and ("rope_theta" in said or old)):
        return None
    parameters = said.get("rope_parameters") or {"rope_theta": said.get("rope_theta"), **old}
    if not isinstance(parameters, dict):
        return None
    parameters = dict(parameters)
    theta, kind = parameters.pop("rope_theta", None), parameters.pop("rope_type", None)
    kind = parameters.pop("type", None) if kind is None else kind
    if isinstance(theta, bool) or not isinstance(theta, int | float) or theta <= 0:
        return None
    if kind in (None, "default") and not parameters:
        return float(theta), None
    fields = {"original_max_position_embeddings": max_positions, **parameters}
    if kind != "llama3" or fields.keys() != Llama3Rope.__dataclass_fields__.keys():
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 for value in fields.values()):
        return None
    return float(theta), Llama3Rope(**fields)
