"""Tiny random vision models as folders, as a user's own checkpoints would lie there, each with the processor it asks for."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextConfig,
    ConvNextImageProcessorPil,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SEEING, READING = {"image_size": 32, "patch_size": 8, **TOWER}, {"vocab_size": 99, **TOWER}
SQUARE, CROP = {"height": 32, "width": 32}, {"shortest_edge": 32}


def _vit(kind: Callable[..., PreTrainedModel]):
    return lambda: (kind(ViTConfig(**SEEING)), ViTImageProcessorPil(size=SQUARE))


def _dinov2():
    config = Dinov2Config(image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    size = {"height": 28, "width": 28}
    return Dinov2Model(config), BitImageProcessorPil(size={"shortest_edge": 28}, crop_size=size)


def _clip():
    config = CLIPConfig(text_config=READING, vision_config=SEEING, projection_dim=12)
    return CLIPModel(config), CLIPImageProcessorPil(size=CROP, crop_size=SQUARE)


def _siglip():
    return SiglipModel(SiglipConfig(text_config=READING, vision_config=SEEING)), SiglipImageProcessorPil(size=SQUARE)


def _resnet():
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return ResNetModel(config), ConvNextImageProcessorPil(size=CROP)


def _convnext():
    config = ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
    return ConvNextModel(config), ConvNextImageProcessorPil(size=CROP)


FAMILIES = {
    "vit": _vit(ViTModel),
    "vit_classifier": _vit(ViTForImageClassification),  # its checkpoint has no pooler
    "dinov2": _dinov2,
    "clip": _clip,
    "siglip": _siglip,
    "resnet": _resnet,
    "convnext": _convnext,
}


def save_vision_model(family: str, folder: Path) -> str:
    """Writes a model of FAMILIES and its processor to the folder; the folder as a model's name."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
