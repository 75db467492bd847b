"""The engine on the real SmolLM2-135M and real film titles: what transformers' own beam search finds, in a fraction of its passes."""

import numpy as np
import pytest
import torch

from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.export import plain_model
from llmrec.backbones.pretrained import load_backbone
from llmrec.backbones.serving import pack
from llmrec.data.folder import load_data
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import text_tokens
from tests.engines.tiny_models import generate

from .test_beam_search import record_passes

QUESTION = "<|im_start|>user\nI liked Star Wars, Return of the Jedi and Alien. Name one more film.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
def test_titles_found_by_the_packed_model_are_those_of_generate(scope, movielens, monkeypatch):
    catalog = load_data(movielens).catalog
    backbone = load_backbone("SmolLM2-135M-Instruct", dtype=torch.float32, num_layers=12)
    items = text_tokens(
        list(catalog.titles), backbone.tokenizer, backbone.base_vocab_size, item_ids=list(catalog.item_ids)
    )
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    torch.manual_seed(0)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.02)
    prompt = np.array(backbone.tokenizer(QUESTION)["input_ids"])
    exported = plain_model(backbone)
    exported.generation_config.eos_token_id = items.end_token
    expected = generate(exported, items, prompt, num_beams=4, renormalize=scope == "trie")

    pack(backbone)
    shapes = record_passes(backbone, monkeypatch)
    trie, cache = TokenTrie.from_item_tokens(items), PromptCache(1 << 30)
    for _ in range(2):  # the second time the question is known
        found, scores = beam_search(backbone, trie, [prompt], 4, num_beams=4, softmax_scope=scope, prompt_cache=cache)
        titles = [catalog.titles[item] for item in found[0].tolist()]
        assert titles == [catalog.titles[item] for item, _ in expected]
        np.testing.assert_allclose(scores[0].numpy(), [score for _, score in expected], atol=2e-3)
    assert shapes[0] == (1, len(prompt)) and (1, 1) in shapes
