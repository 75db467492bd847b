"""Packed weights: the same numbers, no gradients, nothing changed where they do not apply."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.export import plain_model
from llmrec.backbones.packed_linear import PackedLinear, packs
from llmrec.backbones.serving import pack
from llmrec.errors import ModelError
from tests.tiny import tiny_backbone

bfloat16 = pytest.mark.skipif(not packs(torch.bfloat16), reason="this CPU has no instructions for bfloat16")


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_what_the_layer_did(rows, bias):
    torch.manual_seed(0)
    linear = nn.Linear(48, 33, bias=bias)
    x = torch.randn(2, rows, 48)
    torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


@bfloat16
def test_bfloat16_layers_keep_their_arithmetic_whatever_comes_in():
    linear = nn.Linear(48, 33).bfloat16()
    x = torch.randn(5, 48)
    out = PackedLinear(linear)(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, linear(x.bfloat16()), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_packed_model_with_lora_gives_the_logits_it_gave(family):
    backbone = tiny_backbone(family)
    add_lora(backbone, rank=4, alpha=8, dropout=0.5)
    torch.manual_seed(1)
    for parameter in lora_parameters(backbone):
        torch.nn.init.normal_(parameter, std=0.2)
    ids = torch.randint(3, 200, (2, 9))
    with torch.no_grad():
        before = backbone.eval().logits(backbone.hidden_states(ids).flatten(0, 1))
        pack(backbone)
        after = backbone.logits(backbone.hidden_states(ids).flatten(0, 1))
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
    assert not any(type(module) is nn.Linear for module in backbone.causal_lm.modules())
    assert backbone.peft is None and not lora_parameters(backbone)


def test_the_head_stays_where_words_are_not_scored():
    backbone = pack(tiny_backbone("llama"), head=False)
    assert type(backbone.causal_lm.get_output_embeddings()) is nn.Linear
    assert isinstance(backbone.body.layers[0].up_proj, PackedLinear)


def test_single_words_are_scored_by_a_tied_heads_rows_without_its_product(monkeypatch):
    backbone = tiny_backbone("qwen3")  # its head is its embedding
    assert backbone.config.tie_word_embeddings
    hidden, words = torch.randn(3, backbone.dim), torch.tensor([4, 9, 250])
    expected = backbone.word_logits(hidden)[:, words]
    head = pack(backbone).causal_lm.get_output_embeddings()
    assert type(head) is PackedLinear
    monkeypatch.setattr(head, "forward", lambda _: pytest.fail("the whole vocabulary was multiplied"))
    torch.testing.assert_close(backbone.token_logits(hidden, words), expected, atol=1e-5, rtol=1e-5)


def test_a_packed_model_is_neither_saved_nor_copied(tmp_path):
    backbone = pack(tiny_backbone("llama"))
    for attempt in (
        backbone.state_dict,
        lambda: backbone.causal_lm.save_pretrained(tmp_path),
        lambda: copy.deepcopy(backbone),
        lambda: plain_model(backbone),
    ):
        with pytest.raises(ModelError, match="packed for serving"):
            attempt()


def test_bfloat16_is_left_alone_where_the_processor_cannot():
    program = (
        "import torch; from tests.tiny import tiny_backbone; from llmrec.backbones.serving import pack\n"
        "b = tiny_backbone('llama'); b.causal_lm.to(torch.bfloat16); before = [type(m) for m in b.modules()]; pack(b)\n"
        "print([type(m) for m in b.modules()] == before, b.hidden_states(torch.ones(1, 3).long()).shape)"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "True torch.Size([1, 3, 32])" in done.stdout, done.stderr


@bfloat16
def test_lora_with_bfloat16_weights_is_not_rounded_into_them():
    backbone = tiny_backbone("llama")
    backbone.causal_lm.to(torch.bfloat16)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    ids = torch.randint(3, 200, (1, 9))
    with torch.no_grad():
        for parameter in lora_parameters(backbone):
            parameter.normal_(std=0.2)
        before = backbone.eval().hidden_states(ids)
        after = pack(backbone).hidden_states(ids)
    torch.testing.assert_close(after, before, atol=0.1, rtol=0.1)
    assert lora_parameters(backbone)
    assert any(isinstance(module, PackedLinear) for module in backbone.causal_lm.modules())


def test_layers_of_another_class_or_device_stay_as_they_are():
    class Quantized(nn.Linear):
        """As bitsandbytes' layers are: a Linear whose weight is no matrix."""

    backbone = tiny_backbone("llama")
    mlp = backbone.body.layers[0].mlp
    mlp.up_proj = Quantized(32, 48, bias=False)
    pack(backbone)
    assert type(mlp.up_proj) is Quantized and isinstance(mlp.down_proj, PackedLinear)
    elsewhere = tiny_backbone("llama")
    elsewhere.causal_lm.to("meta")
    assert pack(elsewhere) is elsewhere
    assert not any(isinstance(module, PackedLinear) for module in elsewhere.causal_lm.modules())
