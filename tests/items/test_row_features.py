"""Where item rows start from."""

import numpy as np
import torch

from llmrec.items.forms import unique_id_tokens
from llmrec.items.row_features import nearest_seen, row_features
from llmrec.nn.item_table import ItemTable
from tests.tiny import random_item_tokens


def test_a_unique_id_starts_from_its_own_features_centred():
    features = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]], dtype=np.float32)
    found = row_features(unique_id_tokens(3, base_vocab_size=10), features)
    np.testing.assert_allclose(found, [[-2, -2], [0, 0], [2, 2]])


def test_a_code_starts_from_the_mean_of_the_items_that_use_it():
    tokens = random_item_tokens(9, levels=2, codebook_size=3, base_vocab_size=10)  # every pair of codes is an item
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    found = row_features(tokens, features)
    centred = features - features.mean(axis=0)
    uses_last = (tokens.sequences == 10 + 5).any(axis=1)
    assert uses_last.sum() == 3
    np.testing.assert_allclose(found[5], centred[uses_last].mean(axis=0), atol=1e-6)


def test_items_without_features_leave_their_rows_to_chance():
    features = np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    found = row_features(unique_id_tokens(3, base_vocab_size=10), features)
    assert (found[1] == 0).all() and (found[0] != 0).any()


def test_an_unseen_item_is_placed_among_the_seen_items_most_like_it():
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0.05], [0.1, 1]], dtype=np.float32)
    unseen, neighbours = nearest_seen(features, np.array([True, True, True, False, False]), num_neighbours=2)
    assert unseen.tolist() == [3, 4]
    assert neighbours.tolist() == [[0, 1], [2, 1]]
    table = ItemTable(np.zeros(5, dtype=np.int64), 4, norm=1.0)
    before = table.weight.detach().clone()
    table.place(unseen, neighbours)
    assert torch.allclose(table.weight[3], before[[0, 1]].mean(dim=0))
    assert torch.equal(table.weight[:3], before[:3])
