"""Tiny random vision-language models with their tokenizers and image processors, made on the spot without the hub."""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

SPECIAL = [
    "<pad>", "<bos>", "<eos>", "<image>", "<|vision_start|>", "<|vision_end|>",
    "<fake_token_around_image>", "<global-img>", "<video>",
]  # fmt: skip
IMAGE, VIDEO = SPECIAL.index("<image>"), SPECIAL.index("<video>")
VOCAB = 300  # a little more rows than the tokenizer has tokens, as in many real checkpoints
LAYERS = 3
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION = {"hidden_size": 16, "intermediate_size": 24}
_QWEN_TOKENS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 4, "vision_end_token_id": 5}


@functools.cache
def vision_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, after the tokens that write images in any of the families."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def _qwen2_5_vl() -> tuple[torch.nn.Module, object]:
    rotary = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    vision = {
        **_VISION, "depth": 2, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4, "spatial_merge_size": 2,
        "window_size": 16, "fullatt_block_indexes": [1],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config={**_TEXT, "rope_parameters": rotary}, vision_config=vision, **_QWEN_TOKENS)
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 4 * 64, "longest_edge": 1024 * 64}
    )


def _qwen3_vl() -> tuple[torch.nn.Module, object]:
    rotary = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {
        **_VISION, "depth": 3, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4, "spatial_merge_size": 2,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    config = Qwen3VLConfig(text_config={**_TEXT, "rope_parameters": rotary}, vision_config=vision, **_QWEN_TOKENS)
    return Qwen3VLForConditionalGeneration(config), Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 4 * 64, "longest_edge": 1024 * 64}
    )


def _llava() -> tuple[torch.nn.Module, object]:
    vision = CLIPVisionConfig(**_VISION, num_hidden_layers=2, num_attention_heads=2, image_size=12, patch_size=4)
    config = LlavaConfig(
        vision_config=vision.to_dict(), text_config=LlamaConfig(**_TEXT).to_dict(), image_token_index=IMAGE
    )
    size = {"size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}}
    return LlavaForConditionalGeneration(config), CLIPImageProcessorPil(**size)


_IDEFICS = {
    "vision_config": {**_VISION, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 4},
    "scale_factor": 3,
    "image_token_id": IMAGE,
}
_IDEFICS_SIZES = {"size": {"longest_edge": 48}, "max_image_size": {"longest_edge": 24}}


def _idefics3() -> tuple[torch.nn.Module, object]:
    config = Idefics3Config(**_IDEFICS, text_config=LlamaConfig(**_TEXT).to_dict())
    return Idefics3ForConditionalGeneration(config), Idefics3ImageProcessorPil(**_IDEFICS_SIZES)


def _smolvlm() -> tuple[torch.nn.Module, object]:
    config = SmolVLMConfig(**_IDEFICS, text_config=LlamaConfig(**_TEXT).to_dict())
    return SmolVLMForConditionalGeneration(config), SmolVLMImageProcessorPil(**_IDEFICS_SIZES)


FAMILIES = {
    "qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "llava": _llava, "idefics3": _idefics3, "smolvlm": _smolvlm,
}  # fmt: skip


@functools.cache
def tiny_model(family: str) -> tuple[torch.nn.Module, object]:
    """A random model of the family, weights large enough to have opinions, and its image processor. Never changed: copy it."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = None
    return model.eval(), processor


def save_checkpoint(family: str, folder: Path) -> Path:
    """The family's tiny model as a checkpoint folder: weights, tokenizer, image processor."""
    model, processor = tiny_model(family)
    for part in (model, processor, vision_tokenizer()):
        part.save_pretrained(folder)
    return folder


def images(folder: Path, sizes: list[tuple[int, int] | None], seed: int = 0) -> list[Path | None]:
    """Random images of the sizes (width, height), as files; None where there is none."""
    rng = np.random.default_rng(seed)
    paths: list[Path | None] = []
    for number, size in enumerate(sizes):
        if size is None:
            paths.append(None)
            continue
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths
