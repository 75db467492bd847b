"""LoRA that only answers, without PEFT: the same numbers, and what it leaves to PEFT."""

import json

import pytest
import torch

from llmrec.backbones.adapters import add_lora, load_lora
from llmrec.backbones.served_lora import ServedLora, merge_served, serve_lora
from llmrec.errors import ArtifactError
from tests.tiny import tiny_backbone

IDS = torch.tensor([[5, 9, 200, 31], [7, 7, 1, 120]])


def saved_lora(folder, **settings):
    """A LoRA with random matrices, as PEFT saves it."""
    backbone = tiny_backbone("llama")
    add_lora(backbone, **{"rank": 4, "alpha": 8.0, "dropout": 0.1, **settings})
    generator = torch.Generator().manual_seed(0)
    for name, parameter in backbone.causal_lm.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    backbone.peft.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_are_those_of_peft_to_the_last_bit(tmp_path, dtype):
    saved_lora(tmp_path)
    logits = []
    for load in (load_lora, serve_lora):
        backbone = tiny_backbone("llama")
        backbone.causal_lm.to(dtype)
        load(backbone, tmp_path)
        with torch.no_grad():
            logits.append(backbone.causal_lm.eval()(IDS).logits)
    assert torch.equal(*logits) and any(isinstance(m, ServedLora) for m in backbone.causal_lm.modules())
    with torch.no_grad():
        assert not torch.equal(logits[0], tiny_backbone("llama").causal_lm.to(dtype)(IDS).logits)


def test_merged_it_is_the_merged_model_of_peft(tmp_path):
    saved_lora(tmp_path)
    theirs, ours = tiny_backbone("llama"), tiny_backbone("llama")
    load_lora(theirs, tmp_path)
    theirs.peft.merge_and_unload()
    assert serve_lora(ours, tmp_path)
    merge_served(ours)
    for (name, a), (_, b) in zip(theirs.causal_lm.named_parameters(), ours.causal_lm.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_dora_and_other_kinds_are_left_to_peft(tmp_path):
    backbone = tiny_backbone("llama")
    assert not serve_lora(backbone, saved_lora(tmp_path, dora=True))
    assert not any(isinstance(module, ServedLora) for module in backbone.causal_lm.modules())


@pytest.mark.parametrize("damage", ["missing", "rank", "alpha"])
def test_a_damaged_adapter_is_left_to_peft_which_refuses_it(tmp_path, damage):
    saved_lora(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    if damage == "missing":
        (tmp_path / "adapter_model.safetensors").unlink()
    else:
        wrong = {"rank": {"r": 5000}, "alpha": {"lora_alpha": "high"}}[damage]
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **wrong}))
    backbone = tiny_backbone("llama")
    assert not serve_lora(backbone, tmp_path)
    with pytest.raises(ArtifactError):
        load_lora(backbone, tmp_path)
