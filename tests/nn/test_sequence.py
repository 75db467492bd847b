"""SASRec's network: no position sees what comes after it, padding is not there, a batch equals its rows."""

import numpy as np
import pytest
import torch

from llmrec.nn.item_inputs import ItemInputs
from llmrec.nn.sequence import SasRec

N, T = 11, 6


def network(widths=None, use_ids=True):
    torch.manual_seed(0)
    inputs = ItemInputs(N, 8, widths or {}, use_ids=use_ids, std=0.3)
    for name, width in (widths or {}).items():
        inputs.frozen(name).fit(np.random.default_rng(1).normal(size=(N, width)).astype(np.float32), np.arange(N) != 3)
    return SasRec(inputs, max_length=T, num_layers=2, num_heads=2, dropout=0.0).eval()


@pytest.mark.parametrize("changed", range(1, T))
def test_a_later_item_changes_no_earlier_state_and_its_own(changed):
    items, mask = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.ones(1, T, dtype=torch.bool)
    other = items.clone()
    other[0, changed] = 9
    before, after = network()(items, mask), network()(other, mask)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_what_stands_at_padded_positions_changes_nothing_and_stays_finite():
    mask = torch.tensor([[False, False, True, True, True, True]])
    items = torch.tensor([[0, 0, 2, 3, 4, 5]])
    states = network()(items, mask)
    other = network()(torch.tensor([[7, 8, 2, 3, 4, 5]]), mask)
    assert torch.equal(states[:, 2:], other[:, 2:]) and torch.isfinite(states).all()


def test_a_padded_batch_equals_the_sequences_alone():
    items = torch.tensor([[0, 0, 2, 3, 4, 5], [0, 0, 0, 0, 0, 6], [9, 8, 7, 6, 5, 4]])
    mask = torch.tensor([[False] * 2 + [True] * 4, [False] * 5 + [True], [True] * 6])
    together = network()(items, mask)
    for row, length in enumerate((4, 1, 6)):
        alone = network()(items[row : row + 1, -length:], mask[row : row + 1, -length:])
        assert torch.allclose(together[row, -length:], alone[0], atol=1e-5)


@pytest.mark.parametrize("use_ids, widths", [(True, {}), (False, {"text": 5}), (True, {"text": 5, "image": 3})])
def test_every_parameter_learns_whatever_an_item_is(use_ids, widths):
    model = network(widths, use_ids).train()
    items, mask = torch.arange(6)[None], torch.ones(1, T, dtype=torch.bool)
    torch.nn.functional.cross_entropy(model.logits(model(items, mask)[0]), items[0] + 1).backward()
    for name, parameter in model.named_parameters():
        unread = name.endswith("unknown")  # no item is unknown here
        key_bias = "query_key_value.bias" in name
        assert parameter.grad is not None, name
        assert unread or key_bias or parameter.grad.abs().sum() > 0, name
