"""Requests, rankings, and the one place where seen items and candidate lists are handled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import leave_one_out
from llmrec.errors import ModelError, RequestError
from llmrec.recommenders.requests import DenseRecommender, Requests, allowed_items, top_k


class Fixed(DenseRecommender):
    """Gives every request the same scores."""

    name = "fixed"

    def __init__(self, scores):
        self.row = np.array(scores)
        self.num_items = len(scores)

    def scores(self, requests):
        return np.tile(self.row, (len(requests), 1))


def _requests(*histories):
    return Requests(Histories.from_lists([list(history) for history in histories]))


def test_seen_items_and_items_outside_the_candidates_are_closed():
    requests = _requests([0, 0, 2], [])
    allowed = allowed_items(requests, 4, exclude_seen=True, candidates=np.array([0, 1, 2]))
    assert allowed.tolist() == [[False, True, False, False], [True, True, True, False]]
    assert allowed_items(requests, 4, exclude_seen=False).all()


def test_what_a_request_excludes_is_closed_for_it_alone_whatever_was_seen():
    requests = Requests(Histories.from_lists([[0, 2], []]), excluded=Histories.from_lists([[2, 1], [3]]))
    assert allowed_items(requests, 4, exclude_seen=True).tolist() == [
        [False, False, False, True],
        [True, True, True, False],
    ]
    second = requests.take([1, 0])
    assert allowed_items(second, 4, exclude_seen=False, candidates=np.array([0, 1, 3])).tolist() == [
        [True, True, False, False],
        [True, False, False, True],
    ]
    assert _requests([0]).closed(exclude_seen=False) is None
    assert requests.take([]).closed(exclude_seen=True).items.tolist() == []


def test_candidates_outside_the_catalogue_are_refused_in_words():
    with pytest.raises(RequestError, match=r"items 0\.\.3, but they reach from 1 to 4"):
        allowed_items(_requests([0]), 4, exclude_seen=True, candidates=np.array([1, 4]))
    with pytest.raises(RequestError, match=r"from -1 to 2"):
        Fixed([1.0, 2.0, 3.0]).score(_requests([0]), np.array([-1, 2]))


def test_a_column_of_the_wrong_length_is_refused_in_words():
    with pytest.raises(RequestError, match="instructions should have one entry for each of the 2 histories, not 1"):
        Requests(Histories.from_lists([[0], [1]]), instructions=["something light"])


def test_requests_of_instances_hold_no_targets_and_can_be_taken_apart():
    data = Interactions(np.array([0, 4, 7]), np.array([0, 1, 2, 3, 3, 2, 1]), 4, times=np.arange(7))
    instances = leave_one_out(data).test
    requests = Requests.from_instances(instances)
    assert [requests.histories[0].tolist(), requests.histories[1].tolist()] == [[0, 1, 2], [3, 2]]
    second = requests.take([1])
    assert (len(second), second.users.tolist(), second.times.tolist()) == (1, [1], [6])
    assert second.histories[0].tolist() == [3, 2]


def test_short_lists_are_padded():
    ranking = Fixed([1.0, 3.0, 2.0]).rank(_requests([1]), 4, exclude_seen=True)
    assert ranking.items.tolist() == [[2, 0, -1, -1]]
    assert ranking.scores.tolist() == [[2, 1, -np.inf, -np.inf]]
    assert ranking.items.dtype == np.int32


def test_ties_go_to_the_lower_item_number_also_across_the_end_of_the_list():
    assert Fixed([1.0, 0.0, 1.0, 2.0, 1.0]).rank(_requests([]), 3, exclude_seen=False).items.tolist() == [[3, 0, 2]]


def test_an_allowed_item_scored_minus_infinity_is_still_recommended_and_a_closed_one_never():
    ranking = Fixed([-np.inf, 5.0, -np.inf]).rank(_requests([1]), 3, exclude_seen=True)
    assert ranking.items.tolist() == [[0, 2, -1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_top_k_equals_a_full_stable_sort_of_the_allowed_items(seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (4, 9)).astype(np.float32)
    allowed = rng.random((4, 9)) < 0.6
    ranking = top_k(scores, allowed, k)
    for row in range(4):
        expected = sorted(np.flatnonzero(allowed[row]), key=lambda item: (-scores[row, item], item))[:k]
        found = [item for item in ranking.items[row] if item >= 0]
        assert found == expected
        assert ranking.scores[row, : len(found)].tolist() == scores[row, expected].tolist()


@pytest.mark.parametrize("levels", [1, 3, 40, 10**6])  # different scores: all tied ... none tied
def test_top_k_of_a_long_catalogue_equals_a_full_stable_sort(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (20, 3000)).astype(np.float32)
    allowed = np.ones(scores.shape, dtype=bool)
    for row, closed in enumerate(range(0, 60, 3)):  # few closed items, the best ones among them, up to more than groups
        allowed[row, np.argsort(-scores[row])[:closed]] = False
    expected = np.argsort(-np.where(allowed, scores, -1), axis=1, kind="stable")[:, :20]
    ranking = top_k(scores, allowed, 20)
    assert np.array_equal(ranking.items, expected)
    assert np.array_equal(ranking.scores, np.take_along_axis(scores, expected, axis=1))


def test_candidates_may_differ_by_request_when_scoring():
    fixed = Fixed([1.0, 2.0, 3.0])
    requests = _requests([0], [1])
    assert fixed.score(requests, np.array([2, 0])).tolist() == [[3, 1], [3, 1]]
    assert fixed.score(requests, np.array([[2, 0], [1, 1]])).tolist() == [[3, 1], [2, 2]]
    assert fixed.score(requests, np.array([2, 0])).dtype == np.float32


def test_a_score_that_is_not_a_number_names_the_recommender():
    with pytest.raises(ModelError, match="'fixed' gave NaN"):
        Fixed([1.0, np.nan]).rank(_requests([0]), 1, exclude_seen=False)
