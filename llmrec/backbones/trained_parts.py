"""Which parts of a backbone are trained: one list of names in a recipe's settings, such as `train: [lora, item_table]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field
from rapidfuzz import fuzz, process
from torch import nn

from llmrec.backbones.adapters import add_lora, is_added, lora_parameters, train_full_model
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.decoder_layers import LayerPart, add_layer_adapters, decoder_layers, layer_adapters
from llmrec.backbones.prefix import add_prefix, find_prefix
from llmrec.config import Settings
from llmrec.errors import ConfigError, ModelError
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.adapters.soft_prompt import SoftPrompt
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftItemTable

# full: every layer of the language model. last_layers: the last few. The three that follow are added to a frozen one; the others
# exist in addition to it, because of the form of the items or the prompt.
TrainedPart = Literal[
    "full", "last_layers", "lora", "layer_adapter", "prefix", "soft_prompt", "semantic_adapter", "item_table"
]


class LoraSettings(Settings):
    """Low-rank adapters in the backbone's linear layers."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    targets: Literal["all-linear"] | list[str] = "all-linear"
    dora: bool = False  # with a trained length for each column


class LayerAdapterSettings(Settings):
    """Bottleneck adapters in every layer."""

    hidden_dim: int = Field(64, ge=1)
    after: tuple[LayerPart, ...] = Field(("attention", "mlp"), min_length=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class PrefixSettings(Settings):
    """Keys and values before every prompt, in every layer."""

    num_tokens: int = Field(10, ge=1)
    text: str | None = None  # what they start as; None: random words


class SoftPromptSettings(Settings):
    """Trained vectors that every prompt begins with."""

    num_tokens: int = Field(16, ge=1)
    text: str | None = None  # what they start as; None: random vectors
    dropout: float = Field(0.0, ge=0, lt=1)


class PartSettings(Settings):
    """How the parts that are added to a language model are made, and how many layers are its last."""

    lora: LoraSettings = LoraSettings()
    layer_adapter: LayerAdapterSettings = LayerAdapterSettings()
    prefix: PrefixSettings = PrefixSettings()
    soft_prompt: SoftPromptSettings = SoftPromptSettings()
    num_last_layers: int = Field(2, ge=1)


def train_parts(backbone: Backbone, names: Sequence[str], settings: PartSettings, *, seed: int = 0) -> None:
    """Adds to the backbone what `names` asks for, and trains exactly the parts named: all else is frozen.

    Item table, semantic adapter and soft prompt are there before; they are trained if named, and used as they are if not.

    Raises:
        ConfigError: a name that is no part, names that contradict each other, or a part that the backbone does not have.
        ModelError: the language model cannot be given such a part.
    """
    check_names(names)
    present = {
        "item_table": _modules(backbone, ItemTable) + _modules(backbone, SoftItemTable),
        "semantic_adapter": _modules(backbone, SemanticAdapter),
        "soft_prompt": _modules(backbone, SoftPrompt),
    }
    for name, modules in present.items():
        if name in names and not modules:
            there = [each for each, found in present.items() if found]
            raise ConfigError(
                f"train names {name}, but with these settings the model has none (of such parts it has: "
                f"{', '.join(there) or 'none'}); leave it out of the list, or choose a form or prompt that uses one."
            )
    if "prefix" in names:  # first: it starts as what the untouched model keeps of words
        add_prefix(backbone, **settings.prefix.model_dump(), seed=seed)
    if "layer_adapter" in names:
        add_layer_adapters(backbone, **settings.layer_adapter.model_dump(), seed=seed)
    if "lora" in names:
        add_lora(backbone, **settings.lora.model_dump())
    backbone.requires_grad_(False)
    if "full" in names:
        train_full_model(backbone)
    if "last_layers" in names:
        train_last_layers(backbone, settings.num_last_layers)
    trained: list[nn.Parameter] = lora_parameters(backbone) if "lora" in names else []
    modules = [module for name, found in present.items() if name in names for module in found]
    if "layer_adapter" in names:
        modules += layer_adapters(backbone)
    if "prefix" in names:
        modules.append(find_prefix(backbone))
    for parameter in [*trained, *(p for module in modules for p in module.parameters())]:
        parameter.requires_grad_(True)


def check_names(names: Sequence[str]) -> None:
    """Raises ConfigError for a list of parts that cannot be trained together, before any model is loaded."""
    known = get_args(TrainedPart)
    for name in names:
        if name not in known:
            nearest = process.extractOne(name, known, scorer=fuzz.ratio)[0]
            raise ConfigError(
                f"train names {name!r}, which is no part of a model. Did you mean '{nearest}'? There are: {', '.join(known)}."
            )
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"expected train to name at least one part, and each once, got {list(names)}.")
    if "full" in names and (others := {"last_layers", "lora", "layer_adapter", "prefix"} & set(names)):
        raise ConfigError(
            f"train names full, which is full fine-tuning, and {', '.join(sorted(others))} as well; keep one of the two."
        )


def train_last_layers(backbone: Backbone, count: int) -> None:
    """The last `count` decoder layers are trained, in float32; what was added to them is left as it is.

    Raises ModelError for a model in 4 bits, or one of fewer layers.
    """
    if backbone.quantize is not None:
        raise ModelError(
            f"layers in {backbone.quantize} cannot be trained themselves; train lora, or load it unquantized."
        )
    layers = decoder_layers(backbone)
    if not 1 <= count <= len(layers):
        raise ModelError(f"expected between 1 and {len(layers)} last layers, what this model has; got {count}.")
    for layer in layers[-count:]:
        for name, parameter in layer.named_parameters():
            if not is_added(name):
                parameter.data = parameter.data.float()  # bfloat16 would lose small steps
                parameter.requires_grad_(True)


def _modules(backbone: Backbone, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in backbone.modules() if isinstance(module, kind)]
