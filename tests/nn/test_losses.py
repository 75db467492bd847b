"""Losses against hand calculation."""

import math

import torch

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
