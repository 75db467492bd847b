"""Ranking metrics against arithmetic done by hand, and against brute force over every order of the tied items."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec import metrics
from llmrec.metrics import mrr, ndcg, ranks_from_ranking, ranks_from_scores, recall

KS = (1, 5, 10, 20)


def test_metrics_without_ties_equal_the_textbook():
    greater, equal = np.array([0.0, 1.0, 9.0, 10.0, np.inf]), np.zeros(5)  # ranks 1, 2, 10, 11, never
    assert recall(greater, equal, 10).tolist() == [1, 1, 1, 0, 0]
    assert ndcg(greater, equal, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])
    assert mrr(greater, equal, 10) == pytest.approx([1, 1 / 2, 1 / 10, 0, 0])


def test_a_tie_of_three_shares_its_ranks():
    # Two items beat the target and two tie with it: ranks 3, 4, 5 with a third each.
    greater, equal = np.array([2.0]), np.array([2.0])
    assert recall(greater, equal, 4) == pytest.approx([2 / 3])
    assert ndcg(greater, equal, 4) == pytest.approx([(1 / np.log2(4) + 1 / np.log2(5)) / 3])
    assert mrr(greater, equal, 10) == pytest.approx([(1 / 3 + 1 / 4 + 1 / 5) / 3])


def test_a_constant_scorer_gets_recall_k_over_num_items():
    num_items = 50
    greater, equal = ranks_from_scores(np.full((num_items, num_items), 3.0), np.arange(num_items))
    for k in KS:
        assert recall(greater, equal, k) == pytest.approx(k / num_items)


def test_a_constant_scorer_without_seen_items_gets_recall_k_over_the_unseen():
    allowed = np.ones((1, 50), dtype=bool)
    allowed[0, :10] = False
    greater, equal = ranks_from_scores(np.zeros((1, 50)), np.array([30]), allowed)
    assert recall(greater, equal, 5) == pytest.approx([5 / 40])


def test_a_target_that_may_not_be_recommended_is_a_miss_even_at_k_beyond_the_catalogue():
    allowed = np.array([[False, True, True]])
    greater, equal = ranks_from_scores(np.array([[9.0, 1.0, 1.0]]), np.array([0]), allowed)
    assert recall(greater, equal, 1000) == [0]


@st.composite
def _tied_scores(draw):
    num_items = draw(st.integers(1, 6))
    scores = draw(st.lists(st.integers(0, 2), min_size=num_items, max_size=num_items))
    return np.array([scores], dtype=np.float64), draw(st.integers(0, num_items - 1))


@given(_tied_scores(), st.integers(1, 7))
def test_expectations_equal_the_mean_over_every_order_of_the_items(instance, k):
    scores, target = instance
    greater, equal = ranks_from_scores(scores, np.array([target]))
    ranks = []
    for order in permutations(range(scores.shape[1])):  # a stable sort of each order breaks ties by that order
        ranked = [order[p] for p in np.argsort(-scores[0][list(order)], kind="stable")]
        ranks.append(ranked.index(target) + 1)
    ranks = np.array(ranks)
    hits = ranks <= k
    assert recall(greater, equal, k)[0] == pytest.approx(hits.mean())
    assert ndcg(greater, equal, k)[0] == pytest.approx((hits / np.log2(ranks + 1)).mean())
    assert mrr(greater, equal, k)[0] == pytest.approx((hits / ranks).mean())


def test_a_list_and_the_scores_it_came_from_give_the_same_ranks():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (40, 60)).astype(float)
    targets = rng.integers(0, 60, 40)
    items = np.argsort(-scores, axis=1, kind="stable")
    listed = np.take_along_axis(scores, items, axis=1)
    for got, expected in zip(
        ranks_from_ranking(items, listed, targets), ranks_from_scores(scores, targets), strict=True
    ):
        assert np.array_equal(got, expected)


def test_a_target_outside_the_list_is_a_miss_and_padding_never_ties():
    items = np.array([[4, 2, -1, -1], [4, 2, -1, -1]])
    scores = np.array([[1.0, -np.inf, -np.inf, -np.inf]] * 2)
    greater, equal = ranks_from_ranking(items, scores, np.array([2, 7]))
    assert greater.tolist() == [1, np.inf]
    assert equal.tolist() == [0, 0]


def test_coverage_counts_each_item_once_and_no_padding():
    assert metrics.coverage(np.array([[0, 1], [1, 3], [-1, -1]]), num_items=6) == pytest.approx(3 / 6)


def test_popularity_percentiles_are_mid_ranks_with_mean_one_half():
    # Counts 0, 0 share places 1 and 2, then 5, then 9: mid-ranks (in items) 1, 1, 2.5, 3.5.
    percentiles = metrics.popularity_percentiles(np.array([0, 9, 0, 5]))
    assert percentiles == pytest.approx([1 / 4, 3.5 / 4, 1 / 4, 2.5 / 4])
    assert percentiles.mean() == pytest.approx(0.5)


def test_popularity_bias_is_the_list_minus_the_history():
    percentiles = np.array([0.1, 0.5, 0.9])
    items = np.array([[2, 1], [0, -1], [2, -1]])
    indptr, history = np.array([0, 2, 3, 3]), np.array([0, 1, 0])
    bias = metrics.popularity_bias(items, indptr, history, percentiles)
    assert bias == pytest.approx([0.7 - 0.3, 0.1 - 0.1, 0.9 - 0.5])


def test_the_interval_of_a_mean_is_near_the_normal_one_and_repeats_with_its_seed():
    values = np.random.default_rng(1).normal(2.0, 1.0, (2000, 1))
    low, high = metrics.bootstrap_interval(values, resamples=2000, seed=3)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    assert low[0] == pytest.approx(values.mean() - half_width, abs=0.005)
    assert high[0] == pytest.approx(values.mean() + half_width, abs=0.005)
    again = metrics.bootstrap_interval(values, resamples=2000, seed=3)
    assert (low[0], high[0]) == (again[0][0], again[1][0])


def test_a_higher_level_gives_a_wider_interval():
    values = np.random.default_rng(1).normal(size=(300, 2))
    narrow, wide = (metrics.bootstrap_interval(values, level=level) for level in (0.5, 0.99))
    assert (wide[0] < narrow[0]).all() and (wide[1] > narrow[1]).all()


def test_every_metric_column_sees_the_same_resampled_users():
    values = np.random.default_rng(1).normal(size=(100, 1))
    means = metrics.bootstrap_means(np.hstack([values, 2 * values]), resamples=50, seed=0)
    assert means[:, 1] == pytest.approx(2 * means[:, 0])
