"""The language model that a training asks for: which precision, and where it lies."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from llmrec.backbones.adapters import train_full_model
from llmrec.backbones.precision import fastest_dtype
from llmrec.errors import ConfigError, ModelError
from llmrec.training import backbones as module
from llmrec.training.backbones import BackboneSettings, Scratch, check_can_be_saved, make_backbone
from tests.tiny import tiny_backbone


def test_the_model_of_one_precision_is_gone_before_that_of_the_other_is_loaded():
    loaded = []

    def load(dtype: torch.dtype):
        assert not any(model() is not None for _, model in loaded), "both lie in memory at once"
        backbone = tiny_backbone("llama")
        backbone.causal_lm.to(dtype)
        loaded.append((dtype, weakref.ref(backbone.causal_lm)))
        return backbone

    best, seconds = fastest_dtype(load)
    assert [dtype for dtype, _ in loaded] == [torch.bfloat16, torch.float32] and best in (torch.bfloat16, torch.float32)
    assert set(seconds) == {"bfloat16", "float32"} and loaded[-1][1]() is None


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(30, 4), (6, 2), (100, 8), (4, 4)])
def test_heads_that_do_not_fit_a_random_model_are_refused_before_it_is_made(hidden_size, num_heads):
    with pytest.raises(
        ConfigError, match=rf"even multiple of num_heads, got {hidden_size} and {num_heads}; .* take {2 * num_heads},"
    ):
        Scratch(hidden_size=hidden_size, num_heads=num_heads)


def test_full_fine_tuning_that_could_not_be_saved_is_refused_before_it_is_trained(monkeypatch):
    backbone = tiny_backbone("llama")
    check_can_be_saved(backbone)
    backbone.requires_grad_(False)
    train_full_model(backbone)
    check_can_be_saved(backbone)
    monkeypatch.setattr(backbone.causal_lm.config, "num_attention_heads", 5)  # all tiny models share it
    with pytest.raises(ModelError, match=r"not saved, .* \(.*\); mend config.json"):
        check_can_be_saved(backbone)
    backbone.requires_grad_(False)
    check_can_be_saved(backbone)  # of which only adapters would be saved


def test_a_random_model_lies_where_the_process_computes(tiny_model, monkeypatch):
    monkeypatch.setattr(module, "PartialState", lambda: SimpleNamespace(device=torch.device("meta")))
    scratch = Scratch(hidden_size=16, num_layers=1, num_heads=2)
    backbone = make_backbone(BackboneSettings(name=str(tiny_model), dtype="float32", scratch=scratch))
    assert {tensor.device.type for tensor in [*backbone.parameters(), *backbone.buffers()]} == {"meta"}
