"""The language model that a training asks for: which arithmetic, and where it lies."""

import weakref
from types import SimpleNamespace

import torch

from llmrec.backbones.arithmetic import fastest_dtype
from llmrec.training import backbones as module
from llmrec.training.backbones import BackboneSettings, Scratch, make_backbone
from tests.tiny import tiny_backbone


def test_the_model_of_one_arithmetic_is_gone_before_that_of_the_other_is_loaded():
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


def test_a_random_model_lies_where_the_process_computes(tiny_model, monkeypatch):
    monkeypatch.setattr(module, "PartialState", lambda: SimpleNamespace(device=torch.device("meta")))
    scratch = Scratch(hidden_size=16, num_layers=1, num_heads=2)
    backbone = make_backbone(BackboneSettings(name=str(tiny_model), dtype="float32", scratch=scratch))
    assert {tensor.device.type for tensor in [*backbone.parameters(), *backbone.buffers()]} == {"meta"}
