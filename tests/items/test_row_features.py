"""Where item rows start from."""

import numpy as np

from llmrec.items.forms import unique_id_tokens
from llmrec.items.row_features import row_features
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
