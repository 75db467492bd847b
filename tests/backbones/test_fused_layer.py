"""Fused decoder layers: the numbers of transformers' own, for every make that is fused, and hands off everything else."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from llmrec.backbones.adapters import add_lora
from llmrec.backbones.decoder_layers import add_layer_adapters, layer_adapters
from llmrec.backbones.fused_layer import FusedLayer
from llmrec.backbones.prefix import add_prefix
from llmrec.backbones.serving import pack
from llmrec.engines.torch.prompt_cache import PromptCache, empty_cache
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.errors import ModelError
from tests.tiny import tiny_backbone

FUSED = ["llama", "mistral", "qwen2", "qwen3"]


def _num_fused(backbone):
    return sum(type(module) is FusedLayer for module in backbone.causal_lm.modules())


def _shaken(backbone):
    """Norm weights and biases as a trained model has them: not all ones and zeros, where a forgotten one would not be missed."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in backbone.causal_lm.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return backbone.eval()


@pytest.mark.parametrize("family", FUSED)
def test_fused_layers_compute_what_the_layers_did_for_prompts_and_for_nodes(family):
    backbone = _shaken(tiny_backbone(family))
    prompts = [np.arange(3, 15), np.arange(40, 47)]
    nodes, depths = torch.tensor([[5, 6, 7]] * 2), torch.tensor([[0, 1, 1]] * 2)
    ancestors = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 1]]] * 2).bool()

    def read():
        with torch.no_grad():
            tree = PromptTree(backbone, prompts, 3)
            padded = backbone.hidden_states(torch.arange(3, 21).view(2, 9), attention_mask=torch.ones(2, 9).long())
            return tree.last_hidden, tree.grow(nodes, depths, ancestors), padded

    before = read()
    pack(backbone)
    assert _num_fused(backbone) == 2
    for ours, theirs in zip(read(), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("family", FUSED)
def test_in_bfloat16_fused_layers_are_no_farther_from_the_exact_numbers_than_the_layers_were(family):
    backbone = _shaken(tiny_backbone(family))
    ids = torch.randint(3, 200, (4, 30), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        backbone.causal_lm.to(torch.bfloat16).float()  # the weights that bfloat16 can hold
        exact = backbone.hidden_states(ids)
        backbone.causal_lm.to(torch.bfloat16)
        theirs = backbone.hidden_states(ids).float()
        pack(backbone)
        if not _num_fused(backbone):
            pytest.skip("this CPU has no bfloat16 products")
        ours = backbone.hidden_states(ids)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).norm() <= 1.1 * (theirs - exact).norm()


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gpt2"])
def test_layers_of_another_make_stay(family):
    assert _num_fused(pack(tiny_backbone(family))) == 0


def test_layers_with_an_adapter_after_a_part_stay_and_keep_it():
    backbone = tiny_backbone("llama")
    add_layer_adapters(backbone, hidden_dim=4)
    for adapter in layer_adapters(backbone):
        nn.init.normal_(adapter.up, std=0.5)
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        before = backbone.eval().hidden_states(ids)
        assert _num_fused(pack(backbone)) == 0
        torch.testing.assert_close(backbone.hidden_states(ids), before, atol=1e-4, rtol=1e-4)


def test_layers_with_lora_that_cannot_be_merged_stay():
    backbone = tiny_backbone("llama")
    backbone.causal_lm.to(torch.bfloat16)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    assert _num_fused(pack(backbone)) == 0


def test_a_model_that_attends_eagerly_stays(monkeypatch):
    backbone = tiny_backbone("llama")
    monkeypatch.setattr(backbone.config, "_attn_implementation", "eager")
    assert _num_fused(pack(backbone)) == 0


@pytest.mark.parametrize("family", [*FUSED, "gemma3"])
def test_the_state_of_one_token_a_row_is_that_of_all_and_the_cache_gets_every_token(family):
    backbone = pack(_shaken(tiny_backbone(family)))
    ids = torch.randint(3, 200, (3, 14), generator=torch.Generator().manual_seed(5))
    places = torch.tensor([13, 2, 9])
    mask = (torch.arange(14) <= places[:, None]).long()
    rows = torch.arange(3)
    with torch.no_grad():
        for arguments in ({}, {"attention_mask": mask}):
            caches = [empty_cache(backbone), empty_cache(backbone)]
            one = backbone.hidden_states(ids, read_at=places, past_key_values=caches[0], **arguments)
            every = backbone.hidden_states(ids, past_key_values=caches[1], **arguments)
            assert one.shape == (3, 1, backbone.dim)
            torch.testing.assert_close(one[:, 0], every[rows, places], atol=1e-5, rtol=1e-5)
            for ours, theirs in zip(caches[0].layers, caches[1].layers, strict=True):
                assert ours.keys.equal(theirs.keys) and ours.values.equal(theirs.values)


@pytest.mark.parametrize("prefix", [0, 3, 11])
def test_a_window_a_prefix_and_remembered_beginnings_change_nothing_for_a_packed_model(prefix):
    """Windows of 8 tokens: shorter than the prompts and than the longest prefix. Prompts begin alike and are of unequal length."""
    backbone = _shaken(tiny_backbone("mistral"))
    if prefix:
        add_prefix(backbone, num_tokens=prefix)
    rng = np.random.default_rng(0)
    common = rng.integers(3, 200, 20)
    prompts = [np.concatenate([common, rng.integers(3, 200, length)]) for length in (5, 17, 1)]
    padded = torch.from_numpy(rng.integers(3, 200, (3, 14)))
    places = torch.tensor([13, 2, 9])
    mask = (torch.arange(14) <= places[:, None]).long()

    @torch.no_grad()
    def read():
        cache = PromptCache(1 << 20)
        trees = [PromptTree(backbone.eval(), prompts, 2, memory) for memory in (None, cache, cache)]
        nodes = [
            tree.grow(torch.full((3, 1), 5), torch.zeros(3, 1).long(), torch.ones(3, 1, 1).bool()) for tree in trees
        ]
        states = [tree.last_hidden for tree in trees]
        return [*states, *nodes, backbone.hidden_states(padded, attention_mask=mask, read_at=places)]

    before = read()
    pack(pack(backbone))  # twice is as good as once
    assert _num_fused(backbone) == 2
    for ours, theirs in zip(read(), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


def test_transformers_own_generation_writes_the_same_with_fused_layers():
    backbone = _shaken(tiny_backbone("mistral"))
    ids = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0  # padded on the left

    def scores():
        written = backbone.causal_lm.generate(
            ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        return torch.stack(written.logits)

    before = scores()
    pack(backbone)
    assert _num_fused(backbone) == 2
    torch.testing.assert_close(scores(), before, atol=2e-5, rtol=2e-5)


def test_for_one_token_a_row_the_last_layer_multiplies_no_more(monkeypatch):
    backbone = pack(tiny_backbone("llama"))
    first, last = (backbone.body.layers[layer].down_proj for layer in (0, -1))
    rows = {}
    for name, linear in (("first", first), ("last", last)):
        plus = linear.plus
        monkeypatch.setattr(
            linear, "plus", lambda x, y, name=name, plus=plus: rows.update({name: x.numel() // 48}) or plus(x, y)
        )
    PromptTree(backbone, [np.arange(3, 15), np.arange(40, 47)], 3)
    assert rows == {"first": 24, "last": 2}


def test_the_matrices_of_fused_layers_are_held_once_and_not_saved():
    backbone = tiny_backbone("llama")
    layer = backbone.body.layers[0]
    before = [weakref.ref(parameter) for parameter in layer.parameters() if parameter.ndim == 2]
    del layer
    pack(backbone)
    gc.collect()
    assert len(before) == 7 and all(matrix() is None for matrix in before)
    with pytest.raises(ModelError, match="packed for serving"):
        backbone.last_layer.state_dict()


def test_a_layer_that_transformers_came_to_write_in_another_way_stays_and_is_named(monkeypatch):
    forward = LlamaDecoderLayer.forward
    monkeypatch.setattr(LlamaDecoderLayer, "forward", lambda self, x, **rest: 0.9 * forward(self, x, **rest))
    backbone = tiny_backbone("llama")
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        before = backbone.eval().hidden_states(ids)
        with pytest.warns(UserWarning, match="LlamaDecoderLayer of transformers .* computes something else"):
            pack(backbone)
        assert _num_fused(backbone) == 0 and backbone.last_layer is None
        torch.testing.assert_close(backbone.hidden_states(ids), before, atol=1e-4, rtol=1e-4)
