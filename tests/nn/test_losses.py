"""Losses against hand calculation."""

import math

import pytest
import torch
from torch.nn import functional as F

from llmrec.nn import losses
from llmrec.nn.losses import info_nce


def test_info_nce_of_two_pairs_by_hand():
    queries, keys = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [0.6, 0.8]])
    # cosines: [[1, .6], [0, .8]]; temperature 1
    rows = -math.log(math.e / (math.e + math.exp(0.6))) - math.log(math.exp(0.8) / (1 + math.exp(0.8)))
    columns = -math.log(math.e / (math.e + 1)) - math.log(math.exp(0.8) / (math.exp(0.6) + math.exp(0.8)))
    assert math.isclose(float(info_nce(queries, keys, temperature=1.0)), (rows + columns) / 4, rel_tol=1e-6)


def test_info_nce_of_vectors_all_alike_is_the_log_of_the_batch():
    assert math.isclose(float(info_nce(torch.ones(5, 3), torch.ones(5, 3))), math.log(5), rel_tol=1e-6)


def test_info_nce_knows_directions_not_lengths():
    queries, keys = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(info_nce(queries, keys), info_nce(queries * 7, keys * 0.1), atol=1e-5)


def questions(num_questions=9, num_items=7, dim=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num_questions, dim, generator=generator, dtype=dtype, requires_grad=True)
    vectors = torch.randn(num_items, dim, generator=generator, dtype=dtype, requires_grad=True)
    return states, vectors, torch.randint(num_items, (num_questions,), generator=generator)


@pytest.mark.parametrize("at_once", [1, 1000])
def test_the_softmax_over_all_items_is_that_of_the_logits_and_so_are_its_gradients(at_once, monkeypatch):
    monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", at_once)  # 16 rows at a time, or all
    states, vectors, targets = questions(40)
    loss = losses.all_items_loss(states, vectors, targets)
    expected = F.cross_entropy(states @ vectors.T, targets, reduction="sum")
    assert torch.allclose(loss, expected)
    for one, other in zip(*(torch.autograd.grad(2 * x, (states, vectors)) for x in (loss, expected)), strict=True):
        assert torch.allclose(one, other)


def test_the_softmax_over_all_items_of_no_question_is_zero():
    states, vectors, targets = questions(0)
    loss = losses.all_items_loss(states, vectors, targets)
    loss.backward()
    assert loss.item() == 0 and not vectors.grad.any()


def test_the_sampled_softmax_weighs_each_negative_for_the_items_it_stands_for():
    states = torch.tensor([[1.0]])
    vectors = torch.tensor([[0.0], [1.0], [2.0], [0.0]])
    # Target 1; of the two negatives, item 2 stands for 4 / 2 = 2 items and the target itself is left out.
    loss = losses.sampled_items_loss(states, vectors, torch.tensor([1]), torch.tensor([2, 1]))
    assert loss.item() == pytest.approx(math.log(math.e + 2 * math.e**2) - 1)


def test_the_sampled_softmax_comes_to_that_of_all_items():
    states, vectors, targets = questions()
    negatives = torch.arange(7).repeat(3)  # every item as often as chance has it
    sampled = losses.sampled_items_loss(states, vectors, targets, negatives)
    assert torch.allclose(sampled, losses.all_items_loss(states, vectors, targets))
