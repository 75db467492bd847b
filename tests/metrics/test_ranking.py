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


def test_precision_and_f1_at_k_by_hand():
    greater, equal = np.array([1.0, 4.0, 9.0]), np.array([0.0, 0.0, 0.0])  # ranks 2, 5, 10
    assert metrics.precision(greater, equal, 5) == pytest.approx([1 / 5, 1 / 5, 0])
    # Precision 1/5 and recall 1: 2 (1/5) / (1/5 + 1).
    assert metrics.f1(greater, equal, 5) == pytest.approx([2 * (1 / 5) / (6 / 5)] * 2 + [0])
    # Ranks 5 and 6 with a half each.
    assert metrics.precision(np.array([4.0]), np.array([1.0]), 5) == pytest.approx([0.5 / 5])
    assert metrics.f1(np.array([4.0]), np.array([1.0]), 5) == pytest.approx([0.5 * 2 / 6])


def test_gini_by_hand_and_at_both_ends():
    # Recommended 0, 1, 3 times: (2 j - 4) n_j summed is 0 (-2) + 1 (0) + 3 (2), over 3 x 4.
    assert metrics.gini(np.array([[1, 2], [2, -1], [2, -1]]), 3) == pytest.approx(6 / 12)
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert metrics.gini(np.array([[7], [7]]), 10) == pytest.approx(1 - 1 / 10)
    assert np.isnan(metrics.gini(np.array([[-1]]), 3))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_gini_equals_the_mean_difference_of_all_pairs_of_items(recommended):
    counts = np.bincount(recommended, minlength=10)
    expected = np.abs(counts[:, None] - counts[None]).mean() / (2 * counts.mean())
    assert metrics.gini(np.array(recommended)[:, None], 10) == pytest.approx(expected)


def test_novelty_is_the_mean_self_information_with_one_event_added_to_each_item():
    information = metrics.self_information(np.array([7, 3, 1, 0]))  # of 11 + 4 events: 8/15, 4/15, 2/15, 1/15
    assert information == pytest.approx(np.log2([15 / 8, 15 / 4, 15 / 2, 15]))
    found = metrics.novelty(np.array([[0, 3], [2, -1], [-1, -1]]), information)
    assert found == pytest.approx([(np.log2(15 / 8) + np.log2(15)) / 2, np.log2(7.5), information.mean()])


def test_intra_list_diversity_by_hand():
    vectors = np.array(
        [[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-4.0, 0.0], [0.0, 0.0]]
    )  # 0 and 1 alike, 3 opposite, 4 has none
    found = metrics.intra_list_diversity(np.array([[0, 1, 2], [0, 3, -1], [0, 1, -1], [0, 4, 2], [0, -1, -1]]), vectors)
    assert found == pytest.approx([(0 + 1 + 1) / 3, 2, 0, 1, 0])


def test_intra_list_diversity_equals_the_pairs_counted_one_by_one():
    rng = np.random.default_rng(0)
    vectors, items = rng.normal(size=(50, 8)), np.array([rng.permutation(50)[:6] for _ in range(30)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [np.mean([1 - unit[a] @ unit[b] for a in row for b in row if a != b]) for row in items]
    assert metrics.intra_list_diversity(items, vectors) == pytest.approx(expected)
