"""What was trained in a language model, as files: a run's model folder holds one for each part that it has.

| file | what | in the manifest |
|---|---|---|
| adapter/ | LoRA or DoRA, as PEFT saves it | `lora: true` |
| layer_adapters.safetensors | each bottleneck adapter's weights, by layer and position | `layer_adapter: {hidden_dim, after}` |
| prefix.safetensors | keys and values, float32 (n, L * 2 * G * C) | `prefix: {num_tokens}` |
| last_layers.safetensors | the weights of the last layers, by layer from the end | `last_layers: K` |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.backbones.adapters import is_added, load_lora
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.decoder_layers import add_layer_adapters, decoder_layers, layer_adapters, layer_parts
from llmrec.backbones.model_files import loading, shapes_in
from llmrec.backbones.prefix import attach, find_prefix, new_prefix
from llmrec.backbones.served_lora import serve_lora
from llmrec.errors import ArtifactError
from llmrec.nn.adapters.layer import LayerAdapter

LORA_FOLDER, LAYER_ADAPTERS, PREFIX = "adapter", "layer_adapters.safetensors", "prefix.safetensors"
LAST_LAYERS = "last_layers.safetensors"


def save_adapters(backbone: Backbone, folder: Path) -> dict[str, Any]:
    """Writes every part that was added to the language model, and its last layers if they are trained; what the manifest says of them.

    Called while the trained parts still require a gradient, which is how the last layers are told from the others.
    """
    saved: dict[str, Any] = {}
    if backbone.peft is not None:
        for config in backbone.peft.peft_config.values():
            config.base_model_name_or_path = backbone.source.name  # not this machine's path
            for name, value in vars(config).items():
                if isinstance(value, set):  # whose order differs from process to process
                    setattr(config, name, sorted(value))
        # without the flag PEFT asks the hub whether the vocabulary grew
        backbone.peft.save_pretrained(folder / LORA_FOLDER, save_embedding_layers=False)
        (folder / LORA_FOLDER / "README.md").unlink(missing_ok=True)  # PEFT's empty template
        saved["lora"] = True
    if adapters := layer_adapters(backbone):
        save_file(_tensors(_placed_adapters(backbone)), folder / LAYER_ADAPTERS)
        parts = {name.split(".")[1] for name in _placed_adapters(backbone)}
        saved["layer_adapter"] = {"hidden_dim": len(adapters[0].down), "after": sorted(parts)}
    if (prefix := find_prefix(backbone)) is not None:
        save_file({"weight": prefix.weight.detach().contiguous()}, folder / PREFIX)
        saved["prefix"] = {"num_tokens": prefix.num_tokens}
    if count := num_trained_layers(backbone):
        weights = _layer_weights(backbone, count)
        save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, folder / LAST_LAYERS)
        saved["last_layers"] = count
    return saved


def load_adapters(backbone: Backbone, folder: Path, saved: dict[str, Any], *, to_serve: bool = False) -> None:
    """Puts into a freshly loaded backbone what `save_adapters` wrote. saved: what it returned.

    to_serve: the model will only answer, so that LoRA may come without PEFT (`served_lora`); `without_adapters` then keeps it on.

    Raises ArtifactError for weights of another model.
    """
    if "prefix" in saved:
        _check_first(folder / PREFIX, saved["prefix"]["num_tokens"], backbone)
        prefix = new_prefix(backbone, saved["prefix"]["num_tokens"])
        _fill({"weight": prefix.weight}, folder / PREFIX, backbone)
        attach(backbone, prefix)
    if "layer_adapter" in saved:
        _check_first(folder / LAYER_ADAPTERS, saved["layer_adapter"]["hidden_dim"], backbone)
        add_layer_adapters(backbone, **saved["layer_adapter"])
        placed = _placed_adapters(backbone)
        weights = {f"{place}.{name}": p for place, each in placed.items() for name, p in each.named_parameters()}
        _fill(weights, folder / LAYER_ADAPTERS, backbone)
    if "last_layers" in saved:
        _fill(_layer_weights(backbone, saved["last_layers"]), folder / LAST_LAYERS, backbone)
    if "lora" in saved and not (to_serve and serve_lora(backbone, folder / LORA_FOLDER)):
        load_lora(backbone, folder / LORA_FOLDER)


def num_trained_layers(backbone: Backbone) -> int:
    """How many layers, counted from the last, are trained themselves."""
    named = backbone.causal_lm.named_parameters()
    if not any(parameter.requires_grad and not is_added(name) for name, parameter in named):
        return 0  # of any model, also one whose layers cannot be told apart
    count = 0
    for layer in reversed(decoder_layers(backbone)):
        own = [parameter for name, parameter in layer.named_parameters() if not is_added(name)]
        if not all(parameter.requires_grad for parameter in own):
            break
        count += 1
    return count


def _placed_adapters(backbone: Backbone) -> dict[str, LayerAdapter]:
    """ "0.mlp" and the like -> the adapter after that part of that layer."""
    return {
        f"{number}.{place}": child
        for number, layer in enumerate(decoder_layers(backbone))
        for place, part in layer_parts(layer).items()
        for child in part.children()
        if isinstance(child, LayerAdapter)
    }


def _layer_weights(backbone: Backbone, count: int) -> dict[str, nn.Parameter]:
    """The own weights of the last layers: "1.mlp.down_proj.weight" is the last layer's, "2. ..." the one before. LoRA moves
    weights one step down; their names here are the same with and without it."""
    return {
        f"{number}.{name.replace('.base_layer.', '.')}": parameter
        for number, layer in enumerate(reversed(decoder_layers(backbone)[-count:]), start=1)
        for name, parameter in layer.named_parameters()
        if not is_added(name)
    }


def _tensors(modules: dict[str, LayerAdapter]) -> dict[str, Tensor]:
    return {
        f"{place}.{name}": tensor.contiguous()
        for place, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _check_first(path: Path, size: int, backbone: Backbone) -> None:
    """Refuses a size that no tensor of the file has, before anything of that size is made."""
    with loading(f"the trained parts of {backbone.source.name} in '{path}'", error=ArtifactError):
        sizes = {shape[0] for shape in shapes_in(path).values() if shape}
    if size not in sizes:
        raise _foreign(path, backbone)


def _foreign(path: Path, backbone: Backbone) -> ArtifactError:
    return ArtifactError(
        f"'{path}' does not hold the trained parts of {backbone.source.name} with {backbone.layers}; put the original back, or "
        "train again."
    )


@torch.no_grad()
def _fill(parameters: dict[str, nn.Parameter], path: Path, backbone: Backbone) -> None:
    """Gives the parameters what the file holds under their names, in the file's dtype: float32, as it was trained."""
    tensors = load_file(path, device=str(backbone.device))
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise _foreign(path, backbone)
    for name, parameter in parameters.items():
        parameter.data = tensors[name]
