"""Items as soft tokens: numbering, the kept table, answers by inner product."""

import pytest
import torch

from llmrec.nn import soft_tokens
from llmrec.nn.adapters.semantic import SemanticAdapter
from llmrec.nn.soft_tokens import SoftItemTable, SoftTokens

N, Q, D = 7, 3, 8


@pytest.fixture
def soft() -> SoftTokens:
    generator = torch.Generator().manual_seed(0)
    features = {"text": torch.randn(N, 5, generator=generator), "my.own": torch.randn(N, 2, generator=generator)}
    present = {"text": torch.ones(N, dtype=torch.bool), "my.own": torch.arange(N) % 2 == 0}
    dims = {name: matrix.shape[1] for name, matrix in features.items()}
    return SoftTokens(SemanticAdapter(dims, D, num_query_tokens=Q, hidden_dim=8, norm=2.0), features, present)


def test_token_i_times_q_plus_j_is_the_jth_of_item_i(soft):
    places = torch.tensor([4 * Q + 1, 0, 4 * Q + 2, 6 * Q])
    expected = soft(torch.tensor([4, 0, 4, 6]))[torch.arange(4), torch.tensor([1, 0, 2, 0])]
    assert torch.allclose(soft.rows(places), expected, atol=1e-6)
    assert soft.num_tokens == N * Q


def test_the_kept_table_equals_the_adapter_and_follows_its_weights(soft):
    places = torch.arange(N * Q)
    trained = soft.rows(places).detach()
    soft.eval()
    with torch.no_grad():
        assert torch.allclose(soft.rows(places), trained, atol=1e-6)
        kept = soft.table()
        assert soft.table() is kept, "nothing changed, nothing is computed"
        soft.adapter.log_scale.add_(1.0)
        assert torch.allclose(soft.rows(places), trained * torch.e, rtol=1e-4)
        state = {name: tensor.clone() for name, tensor in soft.adapter.state_dict().items()}
        state["log_scale"] -= 1.0
        soft.adapter.load_state_dict(state)
        assert torch.allclose(soft.rows(places), trained, rtol=1e-4)


def test_another_image_changes_that_item_and_no_other(soft):
    soft.eval()
    with torch.no_grad():
        before = soft.table().clone()
        soft.replace(2, {"my.own": torch.tensor([9.0, -9.0])})
        changed = (soft.table() != before).flatten(1).any(dim=1)
        assert changed.tolist() == [item == 2 for item in range(N)]
        soft.replace(2, {"my.own": None})
        assert not soft.present[2, 1]
        assert torch.isfinite(soft.table()).all()


def test_kept_rows_are_forgotten_when_training_goes_on(soft):
    table = SoftItemTable(soft, norm=3.0)
    with torch.no_grad():
        before = soft.eval().table(), table.eval().weight
        weight = soft.adapter.out.weight
        with torch.autograd._unsafe_preserve_version_counter(weight):  # as FSDP puts weights together
            weight.mul_(-3.0)
        soft.train(), table.train()
        after = soft.eval().table(), table.eval().weight
    assert not torch.allclose(before[0], after[0]) and not torch.allclose(before[1], after[1])


def test_logits_are_scaled_inner_products_with_rows_of_one_length(soft):
    table = SoftItemTable(soft, norm=3.0)
    hidden = torch.randn(4, D, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(table.weight.norm(dim=1), torch.full((N,), 3.0), atol=1e-5)
    assert torch.allclose(table.logits(hidden), hidden @ table.weight.T * table.log_scale.exp(), atol=1e-6)
    table.eval(), soft.eval()
    with torch.no_grad():
        kept = table.weight
        assert table.weight is kept
        soft.replace(1, {"text": torch.ones(5)})
        assert not torch.equal(table.weight[1], kept[1]) and torch.equal(table.weight[0], kept[0])


def test_a_loss_on_answers_trains_adapter_projection_and_scale(soft):
    table = SoftItemTable(soft, norm=3.0)
    table.logits(torch.randn(4, D)).logsumexp(1).sum().backward()
    for name, parameter in [*soft.adapter.named_parameters(), *table.named_parameters()]:
        if name != "empty":  # every item here has features
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def gradients(loss: torch.Tensor, *modules: torch.nn.Module) -> list[torch.Tensor | None]:
    for module in modules:
        module.zero_grad()
    loss.backward()
    return [parameter.grad for module in modules for parameter in module.parameters()]


def by_definition(table: SoftItemTable, soft: SoftTokens, rows) -> torch.Tensor:
    """Every row on its own graph."""
    return torch.nn.functional.normalize(table.projection(soft(rows).mean(dim=1)), dim=1) * table.norm


@pytest.mark.parametrize("kind", ["linear", "mlp", "qformer", "moe"])
@pytest.mark.parametrize("remembered", [100, 2])
def test_a_step_computes_all_rows_once_with_the_gradients_of_computing_them_at_every_use(
    soft, kind, remembered, monkeypatch
):
    monkeypatch.setattr(soft_tokens, "_ITEMS_REMEMBERED", remembered)  # beyond: computed again for the gradient
    monkeypatch.setattr(soft_tokens, "_ITEMS_AT_ONCE", 3)
    settings = {**soft.adapter.settings, "kind": kind, "num_query_tokens": Q}
    soft.adapter = SemanticAdapter(settings.pop("feature_dims"), settings.pop("dim"), **settings)
    soft.present[5] = False
    table = SoftItemTable(soft, norm=3.0)
    table.projection.weight.data += torch.randn(D, D, generator=torch.Generator().manual_seed(2)) / 10
    computed = []
    pooled = soft.pooled
    monkeypatch.setattr(soft, "pooled", lambda items: computed.append(items) or pooled(items))
    hidden, answers = torch.randn(4, D, generator=torch.Generator().manual_seed(1)), torch.tensor([[4, 0], [5, 4]])

    def loss(all_rows, some_rows):
        logits = hidden @ all_rows().T * table.log_scale.exp()
        again = (2 * hidden) @ all_rows()[:4].T * table.log_scale.exp()
        return logits.logsumexp(1).sum() + again.logsumexp(1).sum() + (some_rows(answers) ** 3).sum()

    expected = gradients(
        loss(lambda: by_definition(table, soft, slice(None)), lambda a: by_definition(table, soft, a.flatten()).view(2, 2, D)),
        soft, table,
    )  # fmt: skip
    largest = max(float(gradient.abs().max()) for gradient in expected if gradient is not None)
    for _ in range(2):  # a second part of one step, with nothing changed: as gradient accumulation does
        computed.clear()
        total = loss(lambda: table.weight, table.input_rows)
        assert len(computed) == 3 + 1 and computed[-1].tolist() == [0, 4, 5]
        found = gradients(total, soft, table)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, atol=1e-5 * largest, rtol=1e-4)
        assert table._of_step is None, "nothing of a step outlives its gradient"


def test_rows_of_a_step_follow_the_weights(soft):
    table = SoftItemTable(soft, norm=3.0)
    first = table.weight
    assert table.weight is first
    with torch.no_grad():
        soft.adapter.out.weight.mul_(-2.0)
        assert not torch.equal(table.weight, first)
    assert not torch.equal(table.weight, first)
    table.eval()
    assert table._of_step is None


def test_logits_of_named_items_are_those_of_all(soft):
    table = SoftItemTable(soft, norm=3.0)
    hidden, named = torch.randn(4, D), torch.tensor([5, 0, 5])
    for training in (True, False):
        table.train(training), soft.train(training)
        assert torch.allclose(table.logits(hidden, named), table.logits(hidden)[:, named], atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(table.logits(hidden, named), table.logits(hidden)[:, named], atol=1e-5)
