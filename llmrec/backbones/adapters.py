"""Which parts of a backbone are trained: LoRA in its linear layers, the item table beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ArtifactError, ModelError


@dataclass(frozen=True)
class TrainablePart:
    """One named group of trained parameters and its learning rate."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    weight_decay: float

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
) -> None:
    """Puts LoRA (Hu et al. 2022) into the backbone's linear layers, in float32 whatever the frozen part's arithmetic.

    Args:
        targets: "all-linear" (every linear layer but the head), or names such as ["q_proj", "v_proj"].

    Raises:
        ModelError: a name in `targets` is no layer of this model.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")
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

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (
            folder / name
        ).is_file():  # PEFT would take a pickle instead, or ask the hub for a model of the folder's name
            raise ArtifactError(
                f"expected a LoRA adapter for {backbone.source.name} in '{folder}', but {name} is missing."
            )
    try:
        backbone.peft = PeftModel.from_pretrained(backbone.causal_lm, str(folder), is_trainable=trainable)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"expected a LoRA adapter for {backbone.source.name} in '{folder}': {first}") from error


def lora_parameters(backbone: Backbone) -> list[nn.Parameter]:
    """The LoRA matrices, in the model's order."""
    return [p for name, p in backbone.causal_lm.named_parameters() if "lora_" in name]


def trainable_parts(
    backbone: Backbone, *, adapter_lr: float, row_lr: float, weight_decay: float
) -> list[TrainablePart]:
    """The trained parts with their learning rates; together they are exactly the parameters that require a gradient."""
    parts = []
    if lora := lora_parameters(backbone):
        parts.append(TrainablePart("LoRA", tuple(lora), adapter_lr, weight_decay))
    table = backbone.item_table
    if table is not None:
        parts.append(TrainablePart("item table", (table.weight,), row_lr, weight_decay))
        # one number: decay would pull the temperature, not the size of anything
        parts.append(TrainablePart("item logit scale", (table.log_scale,), row_lr, 0.0))
    listed = {id(parameter) for part in parts for parameter in part.parameters}
    rest = [p for p in backbone.parameters() if p.requires_grad and id(p) not in listed]
    if rest:  # a backbone trained whole, from scratch
        parts.insert(0, TrainablePart("language model", tuple(rest), adapter_lr, weight_decay))
    return parts


def train_whole_model(backbone: Backbone) -> None:
    """Every parameter of the language model is trained (from scratch), but the vocabulary matrices only if they are used.

    A model of bare item tokens never reads a word, so its vocabulary stays as it is.
    """
    for parameter in backbone.causal_lm.parameters():
        parameter.requires_grad_(True)
    for matrix in (backbone.causal_lm.get_input_embeddings(), backbone.causal_lm.get_output_embeddings()):
        matrix.requires_grad_(False)
    for parameter in backbone.causal_lm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # bfloat16 would lose small steps


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> tensor of the parameters that are trained: what a checkpoint holds."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def describe(parts: Iterable[TrainablePart], total: int) -> list[tuple[str, str, str]]:
    """Rows (part, parameters, learning rate) for printing before training starts."""
    rows = [(p.name, f"{p.num_parameters:,}", f"{p.learning_rate:g}") for p in parts]
    trained = sum(p.num_parameters for p in parts)
    return [*rows, ("all trained", f"{trained:,} of {total:,} ({100 * trained / max(total, 1):.2f} %)", "")]
