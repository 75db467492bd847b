"""The arithmetic around vLLM's answers, by hand; what needs a real engine is in the files next to this one."""

import numpy as np
import pytest

from llmrec.engines.vllm.token_scores import MOST_ALLOWED, TokenScores, _places, _tied_parts
from llmrec.errors import ModelError


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum())


def test_rows_of_vector_tokens_leave_the_softmax():
    logits = np.array([1.5, -0.3, 2.0, 0.7])
    with_vectors = log_softmax(np.append(logits, np.zeros(30)))  # as an exported head gives them
    scores = TokenScores(None, num_tokens=4, num_vectors=30)
    found = scores._without_vectors(with_vectors[[0, 2, 4]])
    assert found == pytest.approx(log_softmax(logits)[[0, 2]], abs=1e-12)


def test_a_softmax_that_is_nearly_all_vector_tokens_is_refused():
    with_vectors = log_softmax(np.append(np.full(4, -12.0), np.zeros(30)))
    with pytest.raises(ModelError, match='engine="torch"'):
        TokenScores(None, num_tokens=4, num_vectors=30)._without_vectors(with_vectors[[0, 4]])


@pytest.mark.parametrize("size", [2, MOST_ALLOWED, MOST_ALLOWED + 1, 5000])
def test_parts_share_the_first_token_and_hold_every_token_once(size):
    whole = np.random.default_rng(0).permutation(10_000)[:size]
    parts = _tied_parts(whole)
    assert all(part[0] == whole[0] and 2 <= len(part) <= MOST_ALLOWED for part in parts)
    assert np.concatenate([whole[:1], *(part[1:] for part in parts)]).tolist() == whole.tolist()


def test_tokens_are_found_in_any_order_the_engine_gives_them_in_and_none_is_guessed():
    given = np.array([7, 9, 7, 3])  # the sampled token comes first, and again in its place
    assert given[_places(given, np.array([3, 7, 9]))].tolist() == [3, 7, 9]
    with pytest.raises(AssertionError, match="left out"):
        _places(given, np.array([3, 4]))


def test_a_choice_of_one_is_certain_without_a_request():
    found = TokenScores(None, num_tokens=4, num_vectors=0).log_probs([[1]], [np.array([2])], [np.array([2])])
    assert found[0].tolist() == [0.0]
