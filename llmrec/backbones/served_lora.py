"""LoRA as a model that only answers needs it, without PEFT: importing PEFT costs more CPU time than a recommendation.

PEFT trains, saves and exports LoRA. What it saved in the plain form (no DoRA, no ranks of single layers, linear layers in full
precision) is read here and computes the same to the last bit (tested). Everything else is left to PEFT.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.model_files import loading, shapes_in
from llmrec.errors import ArtifactError
from llmrec.files import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# What a plain LoRA's configuration says besides ranks and layers; PEFT reads whatever says something else.
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "lora_bias": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "layer_replication": None, "trainable_token_indices": None,
    "target_parameters": None, "alora_invocation_tokens": None, "use_bdlora": None, "use_qalora": False, "arrow_config": None,
    "velora_config": None, "kasa_config": None, "monteclora_config": None,
}  # fmt: skip


class ServedLora(nn.Module):
    """x -> base(x) + scaling * x A^T B^T, the second part in the precision of A, float32. Letters: R rank.

    lora_A: (R, in); lora_B: (out, R).
    """

    def __init__(self, base_layer: nn.Linear, lora_a: Tensor, lora_b: Tensor, scaling: float) -> None:
        super().__init__()
        self.base_layer, self.scaling = base_layer, scaling
        self.lora_A, self.lora_B = (nn.Parameter(matrix, requires_grad=False) for matrix in (lora_a, lora_b))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) -> (..., out)."""
        said = self.base_layer(x)
        added = F.linear(F.linear(x.to(self.lora_A.dtype), self.lora_A), self.lora_B) * self.scaling
        return (said + added).to(said.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer with LoRA in its weight; in place and for good."""
        self.base_layer.weight += (self.lora_B @ self.lora_A * self.scaling).to(self.base_layer.weight.dtype)
        return self.base_layer


def fits(folder: Path, causal_lm: nn.Module) -> bool:
    """Whether the LoRA saved in `folder` is of the plain form, all of it for linear layers that the model has, in their shapes."""
    config = _plain_config(folder)
    if config is None:
        return False
    with loading(f"a LoRA adapter in '{folder}'", error=ArtifactError):
        shapes = shapes_in(folder / WEIGHTS)
    layers, wanted = dict(causal_lm.named_modules()), {}
    for path in _paths(shapes):
        layer = layers.get(path)
        if type(layer) is not nn.Linear:
            return False
        wanted[_name(path, "A")] = (config["r"], layer.in_features)
        wanted[_name(path, "B")] = (layer.out_features, config["r"])
    return shapes == wanted


def serve_lora(backbone: Backbone, folder: Path) -> bool:
    """Puts the LoRA saved in `folder` into the backbone. False, and nothing done, for one that PEFT has to read, or to refuse.

    Raises ArtifactError for a file that cannot be read.
    """
    if backbone.quantize is not None or not fits(folder, backbone.causal_lm):
        return False
    config = read_json(folder / CONFIG)
    with loading(f"a LoRA adapter for {backbone.source.name} in '{folder}'", error=ArtifactError):
        weights = load_file(folder / WEIGHTS, device=str(backbone.device))
    scaling = config["lora_alpha"] / config["r"]
    for path in _paths(weights):
        parent, _, name = path.rpartition(".")
        parent = backbone.causal_lm.get_submodule(parent)
        pair = (weights[_name(path, letter)].float() for letter in "AB")
        setattr(parent, name, ServedLora(parent.get_submodule(name), *pair, scaling))
    return True


def _paths(names: Iterable[str]) -> list[str]:
    """The layers that LoRA's tensors are of."""
    return sorted({name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in names})


def _name(path: str, letter: str) -> str:
    return f"{_PREFIX}{path}.lora_{letter}.weight"


def _plain_config(folder: Path) -> dict[str, Any] | None:
    """What adapter_config.json says, where it is of the plain form and both files are there."""
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        return None
    config = read_json(folder / CONFIG, "settings of a LoRA adapter", ArtifactError)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    is_plain = all(config.get(key, plain) == plain for key, plain in _PLAIN.items())
    dropout = config.get("lora_dropout")
    is_number = type(rank) is int and rank >= 1 and isinstance(alpha, int | float) and abs(alpha) < 1e6
    is_number = is_number and isinstance(dropout, int | float) and 0 <= dropout < 1
    return config if is_plain and is_number else None


def merge_served(backbone: Backbone) -> None:
    """Puts all of them into their layers' weights."""
    for parent in list(backbone.causal_lm.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ServedLora):
                setattr(parent, name, child.merged())
