"""The semantic adapter: calm at the start, blind to what is absent, the same one by one and together."""

import pytest
import torch
from safetensors.torch import save_file

from llmrec.errors import ArtifactError, ModelError
from llmrec.nn.adapters.semantic import SemanticAdapter

KINDS = ("linear", "mlp", "qformer", "moe")
DIMS = {"text": 24, "image": 40, "my.own matrix": 7}  # a name that no module may have
B, D, N_Q = 12, 32, 3
ABSENT, EMPTY = 4, 7  # item 4 has no image, item 7 nothing


def made(kind: str, **settings) -> SemanticAdapter:
    return SemanticAdapter(DIMS, D, **{"kind": kind, "num_query_tokens": N_Q, "hidden_dim": 32, **settings})


def items(num: int = B, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(num, width, generator=generator) for name, width in DIMS.items()}
    present = torch.ones(num, len(DIMS), dtype=torch.bool)
    present[ABSENT, 1] = False
    present[EMPTY] = False
    return features, present


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", [0.4, 30.0])
def test_rows_start_about_as_long_as_asked_however_wild_the_features_are(kind, norm):
    features, present = items(400)
    lengths = torch.randn(400, 1, generator=torch.Generator().manual_seed(1)).exp()  # a few rows far longer than most
    features = {
        "text": features["text"] * 1e-3 + 5,
        "image": features["image"] * 1e3,
        "my.own matrix": features["my.own matrix"] * lengths - 50,
    }
    adapter = made(kind, norm=norm)
    adapter.fit_scaling(features, present)
    with torch.no_grad():
        tokens = adapter(features, present)
        only_text = present.clone()
        only_text[:, 1:] = False
        text_tokens = adapter(features, only_text)
    assert tokens.shape == (400, N_Q, D) and tokens.dtype == torch.float32
    assert float(tokens.norm(dim=-1).mean()) == pytest.approx(norm, rel=0.25)
    assert float(text_tokens.norm(dim=-1).mean()) == pytest.approx(norm, rel=0.25)
    assert float(tokens[EMPTY].norm(dim=-1).mean()) == pytest.approx(norm, rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_an_absent_feature_change_nothing(kind):
    features, present = items()
    adapter = made(kind)
    before = adapter(features, present)
    for rubbish in (1e6, float("nan"), float("inf")):
        features["image"][ABSENT] = rubbish
        for name in DIMS:
            features[name][EMPTY] = rubbish
        after = adapter(features, present)
        assert torch.equal(before, after)
    after.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in adapter.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_present_feature_matters_and_an_absent_one_trains_nothing(kind):
    features, present = items()
    adapter = made(kind)
    changed = {**features, "image": features["image"] + 1}
    differs = (adapter(changed, present) - adapter(features, present)).abs().amax(dim=(1, 2)) > 1e-4
    assert differs.tolist() == [item not in (ABSENT, EMPTY) for item in range(B)]
    present[:, 1] = False
    # random directions, for a plain sum of squares barely moves with a normalised row
    tokens = adapter(features, present)
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    gradients = [float(projection.weight.grad.abs().sum()) for projection in adapter.projections]
    assert gradients[0] > 0 and gradients[2] > 0
    assert gradients[1] == 0
    assert float(adapter.empty.grad.abs().sum()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_items_together_equal_items_one_by_one(kind):
    features, present = items()
    adapter = made(kind).eval()
    together = adapter(features, present)
    for item in range(B):
        alone = adapter({name: rows[item : item + 1] for name, rows in features.items()}, present[item : item + 1])
        torch.testing.assert_close(alone[0], together[item], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(adapter.pooled(features, present), together.mean(dim=1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_reached_by_the_gradient(kind):
    features, present = items()
    adapter = made(kind, num_layers=2)
    tokens = adapter(features, present)
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    dead = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.any()]
    # softmax does not see what all keys share
    assert [name for name in dead if not name.endswith(".key.bias")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_a_saved_adapter_comes_back_with_settings_and_scaling(kind, tmp_path):
    features, present = items()
    adapter = made(kind, seed=5)
    adapter.fit_scaling(features, present)
    torch.manual_seed(99)
    again = SemanticAdapter(**adapter.settings)
    assert all(torch.equal(p, q) for p, q in zip(adapter.parameters(), again.parameters(), strict=True))
    assert not torch.equal(made(kind, seed=6).out.weight, adapter.out.weight)
    torch.nn.init.normal_(adapter.out.bias)
    adapter.save(tmp_path / "adapter.safetensors")
    loaded = SemanticAdapter.load(tmp_path / "adapter.safetensors")
    assert loaded.settings == adapter.settings
    assert torch.equal(loaded(features, present), adapter(features, present))
    assert not torch.equal(again(features, present), adapter(features, present))


def test_a_file_that_is_no_adapter_is_refused_in_words(tmp_path):
    made("linear").save(tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-5])
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign")
    for name in ("cut", "foreign", "missing"):
        with pytest.raises(ArtifactError, match=f"expected a semantic adapter in .*{name}"):
            SemanticAdapter.load(tmp_path / name)


def test_scaling_is_by_present_rows_only_and_survives_rows_that_are_all_alike():
    features, present = items()
    features["image"][ABSENT] = 1e9
    features["text"][:] = 1e4 / 3
    present[:, 2] = False
    adapter = made("linear")
    adapter.fit_scaling(features, present)
    kept = [item for item in range(B) if item not in (ABSENT, EMPTY)]
    torch.testing.assert_close(adapter.scalings[1].mean, features["image"][kept].mean(dim=0))
    assert float(adapter.scalings[0].spread) == 1.0
    assert float(adapter.scalings[2].spread) == 1.0 and not adapter.scalings[2].mean.any()
    assert torch.isfinite(adapter(features, present)).all()


def test_the_mixture_of_one_expert_is_whitening_by_hand():
    adapter = SemanticAdapter({"text": 4}, 6, kind="moe", num_experts=1, hidden_dim=4, num_query_tokens=1)
    experts = adapter.experts[0]
    torch.nn.init.normal_(experts.means)
    x = torch.randn(5, 4)
    torch.testing.assert_close(experts(x), (x - experts.means[0]) @ experts.experts[0].weight.T)
    many = SemanticAdapter({"text": 4}, 6, kind="moe", hidden_dim=4, noisy_gates=True).experts[0]
    torch.testing.assert_close(many.gates(x).sum(dim=1), torch.ones(5))
    assert not torch.equal(many.gates(x), many.gates(x))  # noise, while training
    many.eval()
    assert torch.equal(many.gates(x), many.gates(x))


def test_a_linear_adapter_is_linear():
    features, present = items()
    present[:] = True
    adapter = made("linear")
    double = {name: 2 * rows for name, rows in features.items()}
    torch.testing.assert_close(adapter(double, present), 2 * adapter(features, present))


def test_an_adapter_that_cannot_be_is_refused_in_words():
    with pytest.raises(ModelError, match="at least one feature"):
        SemanticAdapter({}, D)
    with pytest.raises(ModelError, match="3 heads and width 32"):
        made("qformer", num_heads=3)
