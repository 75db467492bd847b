"""How families of vision-language models write an image into a prompt, and how large an image they may be given.

| family | written as | vision tokens of an image |
|---|---|---|
| Qwen2.5-VL, Qwen3-VL | <|vision_start|> tokens <|vision_end|> | one a square of merge x merge patches, shrunk to the cap |
| LLaVA (CLIP, SigLIP) | tokens | always (image_size / patch_size)^2, 576 of LLaVA-1.5 |
| Idefics3, SmolVLM | <fake_token_around_image> <global-img> tokens <fake_token_around_image> | always those of one tile, 169 or 64 |

Idefics3 and SmolVLM would cut a large image into tiles and add them, several hundred tokens more; here the whole image is
the one tile, what their image processors do under do_image_splitting=False.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ModelError

_QWEN = ("<|vision_start|>",), ("<|vision_end|>",)
_IDEFICS = ("<fake_token_around_image>", "<global-img>"), ("<fake_token_around_image>",)


@dataclass(frozen=True)
class ImageFamily:
    """opening, closing: the words around an image's tokens. num_tokens: of every image alike, from the model's configuration; None
    where images have tokens by their size. has_grid: positions have three axes (M-RoPE). is_deep: later layers get vectors, too.
    arguments: what the image processor is told besides the image."""

    opening: tuple[str, ...]
    closing: tuple[str, ...]
    num_tokens: Callable[[Any], int] | None
    has_grid: bool = False
    is_deep: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()


def _llava_tokens(config: Any) -> int:
    vision = config.vision_config
    kinds = ("clip_vision_model", "siglip_vision_model")
    if vision.model_type not in kinds:
        raise ModelError(
            f"expected a LLaVA whose vision tower is one of {', '.join(kinds)}; this one's is {vision.model_type}, which "
            "writes images in another way. Choose another backbone."
        )
    # CLIP has a vector for the whole image in front, which the strategy "default" leaves out
    extra = (vision.model_type == kinds[0]) - (config.vision_feature_select_strategy == "default")
    return (vision.image_size // vision.patch_size) ** 2 + extra


def _idefics_tokens(config: Any) -> int:
    vision = config.vision_config
    return (vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2


_WHOLE = (("do_image_splitting", False),)
FAMILIES = {
    "qwen2_5_vl": ImageFamily(*_QWEN, None, has_grid=True),
    "qwen3_vl": ImageFamily(*_QWEN, None, has_grid=True, is_deep=True),
    "llava": ImageFamily((), (), _llava_tokens),
    "idefics3": ImageFamily(*_IDEFICS, _idefics_tokens, arguments=_WHOLE),
    "smolvlm": ImageFamily(*_IDEFICS, _idefics_tokens, arguments=_WHOLE),
}


def image_family(backbone: Backbone) -> ImageFamily:
    """The family of the backbone. Raises ModelError where it cannot see, or sees in a way that is not known here."""
    kind = backbone.config.model_type
    if kind in FAMILIES:
        return FAMILIES[kind]
    raise ModelError(
        f"images in the prompt need a vision-language model of one of the kinds {', '.join(FAMILIES)}; {backbone.source.name} is "
        f"of kind {kind}. Choose such a backbone, or let the semantic adapter make soft tokens of image features."
    )


def image_words(backbone: Backbone) -> tuple[list[int], list[int]]:
    """The token ids that stand before and after an image's vision tokens. Raises ModelError where the tokenizer lacks them."""
    family = image_family(backbone)
    known = backbone.tokenizer.get_added_vocab()
    missing = [word for word in (*family.opening, *family.closing) if word not in known]
    if missing:
        raise ModelError(
            f"{backbone.source.name} writes images with {', '.join(missing)}, which its tokenizer does not have. Take the tokenizer "
            "that belongs to the checkpoint."
        )
    return [known[word] for word in family.opening], [known[word] for word in family.closing]


def vision_parts(backbone: Backbone) -> dict[str, nn.Module]:
    """The parts of a vision-language model besides its language tower: its vision tower and what leads from it, by name."""
    model = backbone.causal_lm.base_model
    if backbone.body is model:
        return {}
    return {name: part for name, part in model.named_children() if part is not backbone.body}


def processor_arguments(backbone: Backbone, processor: Any, max_tokens: int) -> dict[str, Any]:
    """What the processor is told so that no image has more than `max_tokens` vision tokens.

    Raises ModelError where the model gives every image more.
    """
    family = image_family(backbone)
    if max_tokens < 1:
        raise ModelError(f"max_tokens, the vision tokens of an image, is at least 1; it is {max_tokens}.")
    arguments = dict(family.arguments)
    if family.num_tokens is None:
        pixels = (processor.patch_size * processor.merge_size) ** 2  # of a token
        # small images are enlarged to the lower limit, and rounding up then may take four times as many tokens
        limits = {"shortest_edge": max(1, max_tokens // 4), "longest_edge": max_tokens}
        arguments["size"] = {edge: min(processor.size[edge], limit * pixels) for edge, limit in limits.items()}
        return arguments
    num_tokens = family.num_tokens(backbone.config)
    if num_tokens > max_tokens:
        raise ModelError(
            f"{backbone.source.name} reads every image as {num_tokens} vision tokens, but max_tokens is {max_tokens}. Set it to "
            f"{num_tokens} or more, or compress images: the feature 'vision' and the semantic adapter."
        )
    return arguments
