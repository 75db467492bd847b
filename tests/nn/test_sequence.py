"""Networks of sequences: no causal state sees what comes after it, a batch equals its sequences, no padding is computed."""

import numpy as np
import pytest
import torch

from llmrec.nn.item_inputs import ItemInputs
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import BLOCKS, BertBlock, MaskedSelfAttention, Recurrent, SelfAttention

N, T = 11, 6
CAUSAL = ["sasrec", "pre_norm", "ligr", "gru4rec"]
ALL = [*CAUSAL, "bert4rec"]


def network(kind="sasrec", widths=None, use_ids=True):
    torch.manual_seed(0)
    inputs = ItemInputs(N, 8, widths or {}, use_ids=use_ids, std=0.3)
    for name, width in (widths or {}).items():
        inputs.frozen(name).fit(np.random.default_rng(1).normal(size=(N, width)).astype(np.float32), np.arange(N) != 3)
    if kind == "gru4rec":
        return Recurrent(inputs, max_length=T, hidden_dim=12, num_layers=2, dropout=0.0).eval()
    shared = {"max_length": T, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    if kind == "bert4rec":
        return MaskedSelfAttention(inputs, BertBlock, mask_probability=0.2, **shared).eval()
    return SelfAttention(inputs, BLOCKS[kind], **shared).eval()


def states(model, *sequences):
    return model(Packed.of([np.array(sequence) for sequence in sequences]), model.item_vectors())


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("changed", range(1, T))
def test_a_later_item_changes_no_earlier_state_and_its_own(kind, changed):
    items = [0, 1, 2, 3, 4, 5]
    other = [*items[:changed], 9, *items[changed + 1 :]]
    before, after = states(network(kind), items), states(network(kind), other)
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.allclose(before[changed], after[changed])
    assert not torch.allclose(before[-1], after[-1])


def test_the_network_that_looks_both_ways_sees_all_but_what_the_mask_hides():
    model = network("bert4rec")
    before = states(model, [0, 1, model.mask, 3])
    assert not torch.allclose(before[0], states(model, [0, 1, model.mask, 4])[0])
    assert not torch.allclose(before[2], states(model, [0, 1, model.mask, 4])[2])


@pytest.mark.parametrize("kind", ALL)
def test_a_batch_of_unlike_lengths_equals_the_sequences_alone(kind):
    model, sequences = network(kind), [[2, 3, 4, 5], [6], [9, 8, 7, 6, 5, 4], [1, 2]]
    together = states(model, *sequences).split([4, 1, 6, 2])
    for sequence, at_once in zip(sequences, together, strict=True):
        assert torch.allclose(at_once, states(model, sequence), atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_layers_see_the_real_positions_and_nothing_else(kind):
    model, seen = network(kind), set()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm):
            module.register_forward_hook(lambda _, inputs, __: seen.add(len(inputs[0])))
    states(model, [2, 3, 4, 5], [6], [9, 8, 7, 6, 5, 4])
    assert seen == {11}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("use_ids, widths", [(True, {}), (False, {"text": 5}), (True, {"text": 5, "image": 3})])
def test_every_parameter_learns_whatever_an_item_is(kind, use_ids, widths):
    model = network(kind, widths, use_ids).train()
    vectors = model.item_vectors()
    hidden = model.mask if kind == "bert4rec" else 5
    read = model(Packed.of([np.array([0, 1, 2, 3, 4, hidden])]), vectors)
    torch.nn.functional.cross_entropy(read @ vectors.T, torch.arange(6) + 1).backward()
    for name, parameter in model.named_parameters():
        unread = name.endswith("unknown")  # no item is unknown here
        assert parameter.grad is not None, name
        assert unread or parameter.grad.abs().sum() > 0, name


def test_the_vectors_of_all_items_are_the_sums_of_what_items_read_one_by_one():
    model = network(widths={"text": 5})
    model.inputs.fields[0].known[4] = False
    torch.nn.init.normal_(model.inputs.fields[0].unknown)
    assert torch.allclose(model.item_vectors(), model.inputs(torch.arange(N)).sum(dim=-2), atol=1e-6)
