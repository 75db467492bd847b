"""Beams on the language tower of vision-language models, for prompts of words: those of transformers' own beam search."""

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from llmrec.backbones.fused_layer import FusedLayer
from llmrec.backbones.serving import pack
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.trie import TokenTrie
from tests.engines.tiny_models import BASE, as_backbone, code_items, generate

ITEMS = code_items(60)
TEXT = {
    "vocab_size": BASE + ITEMS.num_rows,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.25,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def llava() -> torch.nn.Module:
    """A CLIP tower with a Llama."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    config = LlavaConfig(vision_config=vision.to_dict(), text_config=LlamaConfig(**TEXT).to_dict(), image_token_index=3)
    return LlavaForConditionalGeneration(config)


def qwen2_5_vl() -> torch.nn.Module:
    """Positions in three dimensions."""
    rotary = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": rotary}, vision_config=vision)
    )


@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
@pytest.mark.parametrize("make", [llava, qwen2_5_vl])
def test_beams_of_the_language_tower_equal_generate(make, scope):
    torch.manual_seed(0)
    model = make().eval()
    backbone, trie, cache = as_backbone(model), TokenTrie.from_item_tokens(ITEMS), PromptCache(1 << 20)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(5, BASE, length) for length in (19, 5)]
    for _ in range(2):  # the second time the longer one is known
        found, scores = beam_search(backbone, trie, prompts, 8, num_beams=8, softmax_scope=scope, prompt_cache=cache)
        for row, prompt in enumerate(prompts):
            expected = generate(model, ITEMS, prompt, 8, renormalize=scope == "trie")
            assert found[row].tolist() == [item for item, _ in expected]
            np.testing.assert_allclose(scores[row].numpy(), [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize(("make", "num_fused"), [(llava, 3), (qwen2_5_vl, 0)])
def test_a_packed_tower_finds_the_same_beams(make, num_fused):
    """Llama's layers are fused inside a tower, too; those with positions in three dimensions stay."""
    torch.manual_seed(0)
    backbone, trie = as_backbone(make().eval()), TokenTrie.from_item_tokens(ITEMS)
    prompts = [np.random.default_rng(0).integers(5, BASE, length) for length in (19, 5)]
    items, scores = beam_search(backbone, trie, prompts, 8, num_beams=8)
    pack(backbone)
    assert sum(type(module) is FusedLayer for module in backbone.causal_lm.modules()) == num_fused
    found, found_scores = beam_search(backbone, trie, prompts, 8, num_beams=8)
    assert found.equal(items)
    torch.testing.assert_close(found_scores, scores, atol=1e-4, rtol=1e-5)
