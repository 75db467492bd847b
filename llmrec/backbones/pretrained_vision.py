"""Any vision model that transformers loads, as an encoder of pictures: one vector a picture.

Letters: B pictures, P places of the picture (patches or grid cells), D width.

| model | vector |
|---|---|
| picture and text in one space (CLIP, SigLIP, ...: `TWO_TOWERS`) | its image embedding |
| vision network with a pooled output it was trained with (DINOv2, Swin, ResNet, ConvNeXt, ViT with pooler) | that output |
| any other, and one whose checkpoint lacks the pooler's weights | mean of the last hidden states over all places |

The third row is a trap avoided: transformers fills a pooler that a checkpoint lacks with random numbers (most ViT classifiers), and the
features would differ from run to run. Models of timm come by hub name (timm/NAME) where timm is installed, and that needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from llmrec.backbones.encoder_source import encoder_source
from llmrec.errors import ModelError

# Their `get_image_features` gives the embedding that the text tower is compared with.
TWO_TOWERS = ("align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2")


def identity(model: str) -> str:
    """What tells this model's vectors from another's: its weights and how it wants pictures prepared. Raises ModelError."""
    return _source(model).identity


class VisionModel:
    """A vision model by folder or hub name, with the preparation of pictures that its checkpoint asks for.

    Raises ModelError where it cannot be found or loaded, or is no vision model.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        source = _source(name)
        try:
            config = AutoConfig.from_pretrained(source.path, **source.loading)
            # PIL, not torchvision: one result everywhere, and no package that has to match torch's build
            self.processor = AutoImageProcessor.from_pretrained(source.path, backend="pil", **source.loading)
            model, loaded = AutoModel.from_pretrained(
                source.path, dtype=torch.float32, output_loading_info=True, **source.loading
            )
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(f"'{name}' cannot be loaded as an image encoder: {_first_sentence(error)}.") from error
        self.two_towers = config.model_type in TWO_TOWERS
        lacking = sorted(loaded["missing_keys"])
        self.pooled = not any("pooler" in key for key in lacking)
        if unexpected := [key for key in lacking if "pooler" not in key]:
            raise ModelError(
                f"'{name}' lacks {len(unexpected)} weights of its own model (the first is {unexpected[0]}), so its vectors would be "
                "random. Use a complete checkpoint."
            )
        if model.main_input_name != "pixel_values" and not self.two_towers:
            raise ModelError(
                f"'{name}' ({config.model_type}) reads {model.main_input_name}, not pictures. Name a vision model."
            )
        self.model, self.device = model.to(device).eval(), device

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of any size -> float32 (B, D)."""
        inputs = self.processor(images=list(pictures), return_tensors="pt").to(self.device)
        if self.two_towers:
            return self.model.get_image_features(**inputs).pooler_output
        output = self.model(**inputs)
        if self.pooled and output.get("pooler_output") is not None:
            return output.pooler_output.flatten(start_dim=1)
        states = output.last_hidden_state  # (B, P, D), or of a convolutional network (B, D, rows, columns)
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))


def _source(name: str):
    return encoder_source(name, "an image encoder", "'efficientnet-lite0', which needs no hub")


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
