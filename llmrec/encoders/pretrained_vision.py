"""Any vision model that transformers loads, as an encoder of images: one vector per image.

Letters: B images, P positions of the image (patches or grid cells), D width.

| model | vector |
|---|---|
| image and text in one space (CLIP, SigLIP, ...: `TWO_TOWERS`) | its image embedding |
| vision network with a pooled output it was trained with (DINOv2, Swin, ResNet, ConvNeXt, ViT with pooler) | that output |
| any other, and one whose checkpoint lacks the pooler's weights | mean of the last hidden states over all positions |

The third row is a trap avoided: transformers fills a pooler that a checkpoint lacks with random numbers (most ViT classifiers), and the
features would differ from run to run. Models of timm come by hub name (timm/NAME) where timm is installed, and that needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from llmrec.backbones.model_files import check_complete, check_size, loading
from llmrec.encoders.source import encoder_source
from llmrec.errors import ModelError

# Their `get_image_features` gives the embedding that the text tower is compared with.
TWO_TOWERS = ("align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2")


def identity(model: str) -> str:
    """What tells this model's vectors from another's: its weights and how it wants images prepared. Raises ModelError."""
    return _source(model).identity


class VisionModel:
    """A vision model by folder or hub name, with the preparation of images that its checkpoint asks for.

    Raises ModelError where it cannot be found or loaded, or is no vision model.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        from transformers import (
            AutoConfig,
            AutoImageProcessor,
            AutoModel,
        )  # here: most that import this module encode nothing

        source = _source(name)
        with loading(f"an image encoder in '{name}'"):
            config = AutoConfig.from_pretrained(source.path, **source.loading)
            check_size(AutoModel, config, source.path, name)
            # PIL, not torchvision: one result everywhere, and no package that has to match torch's build
            self.processor = AutoImageProcessor.from_pretrained(source.path, backend="pil", **source.loading)
            model, loaded = AutoModel.from_pretrained(
                source.path,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **source.loading,
            )
        self.two_towers = config.model_type in TWO_TOWERS
        check_complete(loaded, name, unused="pooler")
        self.pooled = not any("pooler" in key for key in loaded["missing_keys"])
        if model.main_input_name != "pixel_values" and not self.two_towers:
            raise ModelError(
                f"'{name}' ({config.model_type}) reads {model.main_input_name}, not images. Name a vision model."
            )
        self.model, self.device = model.to(device).eval(), device

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size -> float32 (B, D)."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        if self.two_towers:
            return self.model.get_image_features(**inputs).pooler_output
        output = self.model(**inputs)
        if self.pooled and output.get("pooler_output") is not None:
            return output.pooler_output.flatten(start_dim=1)
        states = output.last_hidden_state  # (B, P, D), or of a convolutional network (B, D, rows, columns)
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))


def _source(name: str):
    return encoder_source(name, "an image encoder", "'efficientnet-lite0', which needs no hub")
