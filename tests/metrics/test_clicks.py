"""AUC, AUC within users and logloss: by hand, by brute force over all pairs, and with users resampled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec import metrics


def brute_force_auc(labels, scores):
    """Over every pair of a positive and a negative row; None without a pair."""
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in [s for s, label in zip(scores, labels, strict=True) if label]
        for n in [s for s, label in zip(scores, labels, strict=True) if not label]
    ]
    return sum(pairs) / len(pairs) if pairs else None


def test_auc_by_hand_with_a_tie():
    # Positives .9 and .4, negatives .4 and .1: .9 wins twice, .4 ties once and wins once.
    labels, scores = np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1])
    assert metrics.auc(labels, scores) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert metrics.auc(~labels, scores) == pytest.approx(0.5 / 4)


def test_a_constant_scores_one_half_and_one_class_has_no_auc():
    labels = np.array([True, False, False])
    assert metrics.auc(labels, np.full(3, 7.0)) == 0.5
    assert np.isnan(metrics.auc(np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(metrics.auc(np.zeros(3, bool), np.arange(3.0)))


_ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=25)


@given(_ROWS)
def test_auc_and_gauc_equal_all_pairs_counted_one_by_one(rows):
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    expected = brute_force_auc(labels, scores)
    assert metrics.auc(labels, scores) == (
        pytest.approx(expected) if expected is not None else pytest.approx(np.nan, nan_ok=True)
    )
    total = weight = left_out = 0
    for user in set(users.tolist()):
        own = users == user
        value = brute_force_auc(labels[own], scores[own])
        if value is None:
            left_out += 1
        else:
            total, weight = total + value * own.sum(), weight + own.sum()
    found = metrics.user_auc(labels, scores, users)
    assert (found.num_left_out, found.rows_left_out) == (left_out, len(rows) - weight)
    assert metrics.gauc(labels, scores, users) == pytest.approx(total / weight if weight else np.nan, nan_ok=True)


def test_gauc_weighs_users_by_their_rows_and_ignores_a_constant_a_user():
    # User 0: three rows, AUC 1/2 (one win, one loss). User 1: two rows, AUC 1. User 2: positives only.
    labels = np.array([True, False, False, True, False, True])
    scores = np.array([2.0, 1.0, 3.0, 5.0, 4.0, 9.0])
    users = np.array([0, 0, 0, 1, 1, 2])
    assert metrics.gauc(labels, scores, users) == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)
    assert metrics.user_auc(labels, scores, users).num_left_out == 1
    shifted = scores + np.array([100.0, 0.0, -50.0])[users]
    assert metrics.gauc(labels, shifted, users) == metrics.gauc(labels, scores, users)


def test_logloss_by_hand_and_certain_errors_stay_finite():
    labels = np.array([True, False])
    assert metrics.logloss(labels, np.array([0.8, 0.4])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert metrics.logloss(labels, np.array([0.0, 1.0])) == pytest.approx(-np.log(1e-7), rel=1e-6)


def click_examples(num_users=60, seed=0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users), rng.integers(1, 12, num_users))
    labels = rng.random(len(users)) < 0.6
    return labels, np.round(labels + rng.normal(0, 1, len(users)), 1), users


def test_each_redrawn_auc_is_the_auc_of_the_redrawn_rows():
    labels, scores, users = click_examples(num_users=8)
    values = metrics.auc_resamples(labels, scores, users, resamples=20, seed=4)
    for value, times in zip(values, metrics.resampled_counts(8, 20, 4), strict=True):
        rows = np.concatenate([np.tile(np.flatnonzero(users == user), number) for user, number in enumerate(times)])
        assert value == pytest.approx(metrics.auc(labels[rows], scores[rows]))


def test_each_redrawn_gauc_is_the_gauc_of_the_redrawn_users():
    labels, scores, users = click_examples()
    of_users = metrics.user_auc(labels, scores, users)
    values = metrics.gauc_resamples(labels, scores, users, resamples=5, seed=1)
    for value, sampled in zip(
        values, np.random.default_rng(1).integers(len(of_users.users), size=(5, len(of_users.users))), strict=True
    ):
        expected = of_users.values[sampled] @ of_users.rows[sampled] / of_users.rows[sampled].sum()
        assert value == pytest.approx(expected)


def test_redrawn_values_surround_the_real_one_and_repeat_with_their_seed():
    labels, scores, users = click_examples(400)
    for resamples, real in (
        (metrics.auc_resamples, metrics.auc(labels, scores)),
        (metrics.gauc_resamples, metrics.gauc(labels, scores, users)),
    ):
        values = resamples(labels, scores, users, resamples=300, seed=2)
        low, high = np.quantile(values, [0.025, 0.975])
        assert low < real < high and 0.02 < high - low < 0.15
        assert np.array_equal(values, resamples(labels, scores, users, resamples=300, seed=2))


def test_a_monotone_change_of_the_scores_changes_no_resample():
    labels, scores, users = click_examples()
    a, b = (metrics.auc_resamples(labels, s, users, resamples=50) for s in (scores, np.exp(scores)))
    assert np.array_equal(a, b)


def test_accuracy_and_f1_at_one_half_by_hand_and_a_coin_on_the_threshold():
    labels = np.array([True, True, False, False])
    scores = np.array([0.9, 0.4, 0.6, 0.1])  # one of each: hit, miss, false alarm, rightly not
    assert metrics.binary_accuracy(labels, scores) == 0.5
    assert metrics.binary_f1(labels, scores) == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert metrics.binary_accuracy(labels, np.array([0.9, 0.5, 0.1, 0.1])) == 3.5 / 4
    # Every score on the threshold: half of all are said to be liked, TP 1, FP 1, FN 1.
    assert metrics.binary_accuracy(labels, np.full(4, 0.5)) == 0.5
    assert metrics.binary_f1(labels, np.full(4, 0.5)) == pytest.approx(2 / 4)
    assert np.isnan(metrics.binary_f1(np.zeros(2, bool), np.array([0.1, 0.2])))


def test_each_redrawn_ratio_is_that_of_the_redrawn_users():
    labels, scores, users = click_examples(num_users=9)
    losses = (scores - labels) ** 2
    sums = np.stack([np.bincount(users, losses), np.bincount(users)], axis=1)
    values = metrics.ratio_resamples(sums, resamples=6, seed=3)
    for value, sampled in zip(values, np.random.default_rng(3).integers(9, size=(6, 9)), strict=True):
        rows = np.concatenate([np.flatnonzero(users == user) for user in sampled])
        assert value == pytest.approx(losses[rows].mean())
    assert np.isnan(metrics.ratio_resamples(np.zeros((0, 2)), resamples=4)).all()
