"""Packed frozen layers: the same numbers, the same parameters, and nothing left behind."""

import pytest
import torch
from torch import nn

from llmrec.backbones import frozen_linear, packed_linear
from llmrec.backbones.adapters import add_lora, lora_parameters, train_full_model
from llmrec.backbones.frozen_linear import FrozenLinear, frozen_weights_packed
from llmrec.backbones.packed_linear import blas_is_narrow
from tests.tiny import FAMILIES, tiny_backbone

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(autouse=True)
def narrow_blas(monkeypatch):
    """As on a CPU where packing pays off."""
    monkeypatch.setattr(frozen_linear, "blas_is_narrow", lambda: True)


def packed_layers(backbone) -> int:
    return sum(isinstance(module, FrozenLinear) for module in backbone.modules())


def loss_and_gradient(backbone):
    backbone.zero_grad()
    loss = backbone.logits(backbone.hidden_states(IDS)[0]).logsumexp(1).sum()
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in lora_parameters(backbone)])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gpt2"}))  # GPT-2's layers are no nn.Linear
def test_loss_gradient_and_parameter_names_stay(family):
    backbone = tiny_backbone(family)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0)
    for parameter in lora_parameters(backbone):
        nn.init.normal_(parameter, std=0.05)
    loss, gradient = loss_and_gradient(backbone)
    before = dict(backbone.named_parameters())
    with frozen_weights_packed(backbone):
        assert packed_layers(backbone) == 14
        packed_loss, packed_gradient = loss_and_gradient(backbone)
        assert dict(backbone.named_parameters()) == before
    assert packed_layers(backbone) == 0 and dict(backbone.named_parameters()) == before
    torch.testing.assert_close(packed_loss, loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(packed_gradient, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_a_layer_with_a_bias_computes_the_same_and_hands_its_gradient_down():
    linear = nn.Linear(7, 5).requires_grad_(False)
    x = torch.randn(2, 3, 7, requires_grad=True)
    y = x.detach().clone().requires_grad_(True)
    weights = torch.randn(2, 3, 5)
    (linear(x) * weights).sum().backward()
    (FrozenLinear(linear)(y) * weights).sum().backward()
    torch.testing.assert_close(FrozenLinear(linear)(x), linear(x))
    torch.testing.assert_close(y.grad, x.grad)


def test_what_is_trained_or_too_large_or_not_float32_is_left_alone(monkeypatch):
    whole = tiny_backbone("llama")
    train_full_model(whole)
    half = tiny_backbone("llama")
    half.causal_lm.to(torch.bfloat16)
    for backbone in (whole, half):
        with frozen_weights_packed(backbone):
            assert packed_layers(backbone) == 0
    monkeypatch.setattr(frozen_linear, "_MEMORY_SHARE", 10**12)
    backbone = tiny_backbone("llama")
    with frozen_weights_packed(backbone):
        assert packed_layers(backbone) == 0


@pytest.mark.parametrize(
    ("capability", "vendor", "is_narrow"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX512", "GenuineIntel", False),
        ("AVX2", "AuthenticAMD", False),
        ("AVX2", "GenuineIntel", False),
        ("AVX512", "", False),
    ],
)
def test_packing_is_for_processors_that_mkl_uses_half_of(capability, vendor, is_narrow, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(packed_linear, "_vendor", lambda: vendor)
    assert blas_is_narrow() == is_narrow
    monkeypatch.setattr(frozen_linear, "blas_is_narrow", blas_is_narrow)
    backbone = tiny_backbone("llama")
    with frozen_weights_packed(backbone):
        assert packed_layers(backbone) == (14 if is_narrow else 0)


def test_the_vendor_is_what_the_system_says_of_the_first_processor(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(packed_linear, "Path", lambda _: info)
    assert packed_linear._vendor.__wrapped__() == ""
    info.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n")
    assert packed_linear._vendor.__wrapped__() == "AuthenticAMD"


def test_layers_come_back_when_training_fails():
    backbone = tiny_backbone("llama")
    with pytest.raises(KeyboardInterrupt), frozen_weights_packed(backbone):
        raise KeyboardInterrupt
    assert packed_layers(backbone) == 0
