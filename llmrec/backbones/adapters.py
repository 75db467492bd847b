"""Trained parts of a backbone and their learning rates; LoRA. Which of them a recipe trains: see trained_parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.decoder_layers import layer_adapters
from llmrec.backbones.image_families import vision_parts
from llmrec.backbones.model_files import check_lora_files, loading
from llmrec.backbones.prefix import Prefix, find_prefix
from llmrec.errors import ArtifactError, ModelError
from llmrec.nn.adapters.layer import LayerAdapter
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftItemTable

PartKind = Literal[
    "language_model", "lora", "layer_adapter", "prefix", "soft_prompt", "item_table", "item_scale",
    "semantic_adapter", "adapter_scale",
]  # fmt: skip
_NAMES: dict[PartKind, str] = {
    "language_model": "language model",  # its own layers: all of them, or the last
    "lora": "LoRA",
    "layer_adapter": "layer adapters",
    "prefix": "prefix",
    "soft_prompt": "soft prompt",
    "item_table": "item table",
    "item_scale": "item logit scale",
    "semantic_adapter": "semantic adapter",
    "adapter_scale": "semantic adapter's scale",
}
_EMBEDDINGS = ("item_table", "item_scale", "soft_prompt", "prefix")
_SCALES = ("item_scale", "adapter_scale")  # one number each
SEMANTIC_ADAPTER: tuple[PartKind, ...] = ("semantic_adapter", "adapter_scale")


@dataclass(frozen=True)
class TrainablePart:
    """One group of trained parameters and its learning rate."""

    kind: PartKind
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    weight_decay: float

    @property
    def name(self) -> str:
        """What a person calls it."""
        return _NAMES[self.kind]

    @property
    def num_parameters(self) -> int:
        """Numbers trained in this part."""
        return sum(parameter.numel() for parameter in self.parameters)


def add_lora(
    backbone: Backbone,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Literal["all-linear"] | list[str] = "all-linear",
    dora: bool = False,
) -> None:
    """Puts LoRA (Hu et al. 2022) into the backbone's linear layers, in float32 whatever the frozen part's precision.

    The vision tower of a vision-language model stays as it is, whatever its layers are called.

    Args:
        targets: "all-linear" (every linear layer but the head), or names such as ["q_proj", "v_proj"].
        dora: each layer's columns get a trained length in addition to LoRA's direction (DoRA, Liu et al. 2024).

    Raises:
        ModelError: a name in `targets` is no layer of this model.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        exclude_modules=_excluded(backbone),
        use_dora=dora,
        task_type="CAUSAL_LM",
    )
    try:
        backbone.peft = get_peft_model(backbone.causal_lm, config)
    except ValueError as error:
        raise ModelError(
            f"expected LoRA targets that name layers of {type(backbone.causal_lm).__name__}, got {targets!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    for parameter in lora_parameters(backbone):
        parameter.data = parameter.data.float()


def load_lora(backbone: Backbone, folder: Path, *, trainable: bool = False) -> None:
    """Puts the LoRA saved in `folder` (adapter_config.json, adapter_model.safetensors) into the backbone.

    Raises:
        ArtifactError: the folder holds no adapter, or one for another model.
    """
    from peft import PeftModel

    check_lora_files(folder, backbone.source.name, _excluded(backbone))
    with loading(f"a LoRA adapter for {backbone.source.name} in '{folder}'", error=ArtifactError):
        backbone.peft = PeftModel.from_pretrained(backbone.causal_lm, str(folder), is_trainable=trainable)


def _excluded(backbone: Backbone) -> str | None:
    """The modules that get no LoRA, as PEFT's pattern: those of the vision tower."""
    vision = "|".join(vision_parts(backbone))
    return rf"(.*\.)?({vision})\..*" if vision else None


def lora_parameters(backbone: Backbone) -> list[nn.Parameter]:
    """The LoRA matrices, in the model's order."""
    return [p for name, p in backbone.causal_lm.named_parameters() if "lora_" in name]


def is_added(name: str) -> bool:
    """Whether a parameter of `backbone.causal_lm`, by its name there, was added to the loaded model."""
    return "lora_" in name or ".layer_adapter." in name or ".prefix." in f".{name}"


def trainable_parts(
    backbone: Backbone, *, adapter_lr: float, embedding_lr: float, weight_decay: float
) -> list[TrainablePart]:
    """The trained parts with their learning rates; together they are exactly the parameters that require a gradient.

    `embedding_lr` is of what stands for embeddings (item table, soft prompt, prefix), `adapter_lr` of all matrices.
    """
    by_part: dict[PartKind, list[nn.Parameter]] = {"language_model": []}
    kinds = {id(parameter): kind for parameter, kind in _parts_of(backbone)}
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            by_part.setdefault(kinds.get(id(parameter), "language_model"), []).append(parameter)
    return [
        TrainablePart(
            kind,
            tuple(parameters),
            embedding_lr if kind in _EMBEDDINGS else adapter_lr,
            0.0 if kind in _SCALES else weight_decay,  # decay would pull the temperature, not the size of anything
        )
        for kind, parameters in by_part.items()
        if parameters
    ]


def _parts_of(backbone: Backbone) -> Iterator[tuple[nn.Parameter, PartKind]]:
    """Every parameter that is not the language model's own, and the kind of its part."""
    for parameter in lora_parameters(backbone):
        yield parameter, "lora"
    kinds: dict[type, PartKind] = {LayerAdapter: "layer_adapter", Prefix: "prefix", SoftPrompt: "soft_prompt"}
    for module in backbone.modules():
        if type(module) in kinds:
            yield from ((parameter, kinds[type(module)]) for parameter in module.parameters())
        elif isinstance(module, ItemTable | SoftItemTable):
            yield module.log_scale, "item_scale"
            rest = (parameter for parameter in module.parameters() if parameter is not module.log_scale)
            yield from ((parameter, "item_table") for parameter in rest)
        elif isinstance(module, SemanticAdapter):
            yield module.log_scale, "adapter_scale"
            rest = (parameter for parameter in module.parameters() if parameter is not module.log_scale)
            yield from ((parameter, "semantic_adapter") for parameter in rest)


@contextlib.contextmanager
def without_adapters(backbone: Backbone) -> Iterator[None]:
    """The language model as it was loaded: LoRA, layer adapters and prefix are off. What was trained in place stays as it is."""
    added: list[LayerAdapter | Prefix] = [*layer_adapters(backbone)]
    if (prefix := find_prefix(backbone)) is not None:
        added.append(prefix)
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    for module in added:
        module.is_on = False
    try:
        with backbone.peft.disable_adapter() if backbone.peft is not None else contextlib.nullcontext():
            yield
    finally:
        for module in added:
            module.is_on = True
        backbone.requires_grad_(False)  # PEFT leaves its layers trainable
        for parameter in trained:
            parameter.requires_grad_(True)


def train_full_model(backbone: Backbone) -> None:
    """Every parameter of the language model is trained (from scratch), but the vocabulary matrices only if they are used.

    A model of bare item tokens never reads a word, so its vocabulary stays as it is.
    """
    for parameter in backbone.body.parameters():
        parameter.requires_grad_(True)
    for matrix in (backbone.causal_lm.get_input_embeddings(), backbone.causal_lm.get_output_embeddings()):
        matrix.requires_grad_(False)
    for parameter in backbone.causal_lm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # bfloat16 would lose small steps


def is_fully_fine_tuned(backbone: Backbone) -> bool:
    """Whether every parameter of the language model but its vocabulary matrices is trained, as `train_full_model` leaves it."""
    lm = backbone.causal_lm
    words = {id(p) for layer in (lm.get_input_embeddings(), lm.get_output_embeddings()) for p in layer.parameters()}
    return all(p.requires_grad for p in backbone.body.parameters() if id(p) not in words)


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> tensor of the parameters that are trained: what a checkpoint holds."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def describe(parts: Iterable[TrainablePart], total: int) -> list[tuple[str, str, str]]:
    """Rows (part, parameters, learning rate) for printing before training starts."""
    rows = [(p.name, f"{p.num_parameters:,}", f"{p.learning_rate:g}") for p in parts]
    trained = sum(p.num_parameters for p in parts)
    return [*rows, ("all trained", f"{trained:,} of {total:,} ({100 * trained / max(total, 1):.2f} %)", "")]
