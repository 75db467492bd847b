"""ECE, reliability points and Brier score: by hand, and where scores are as often right as they say."""

import numpy as np
import pytest

from llmrec import metrics

LABELS = np.array([True, False, True, True, False, False])
SCORES = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.2])


def test_reliability_and_ece_of_two_bins_by_hand():
    points = metrics.reliability(LABELS, SCORES, bins=2)
    assert points.scores == pytest.approx([0.7 / 3, 2.4 / 3]) and points.liked == pytest.approx([1 / 3, 2 / 3])
    assert points.counts.tolist() == [3, 3]
    assert metrics.ece(LABELS, SCORES, bins=2) == pytest.approx((abs(1 - 0.7) + abs(2 - 2.4)) / 6)


def test_a_bin_ends_with_its_upper_edge_and_empty_bins_are_left_out():
    points = metrics.reliability(np.array([True, False, True, False]), np.array([0.0, 0.5, 0.51, 1.0]), bins=2)
    assert points.counts.tolist() == [2, 2] and points.scores == pytest.approx([0.25, 0.755])
    assert metrics.reliability(LABELS, SCORES, bins=10).counts.tolist() == [2, 1, 1, 1, 1]


def test_equal_mass_bins_hold_equally_many_and_never_divide_a_score():
    points = metrics.reliability(LABELS, SCORES, bins=3, equal_mass=True)
    assert points.counts.tolist() == [2, 2, 2] and points.scores == pytest.approx([0.2, 0.5, 0.85])
    assert metrics.ece(LABELS, SCORES, bins=3, equal_mass=True) == pytest.approx((2 * 0.2 + 2 * 0.5 + 2 * 0.35) / 6)
    tied = metrics.reliability(LABELS, np.array([0.1, 0.4, 0.4, 0.4, 0.4, 0.9]), bins=3, equal_mass=True)
    assert tied.counts.tolist() == [5, 1]  # the four begin at rank 1, in the first third


def test_scores_that_say_how_often_they_are_right_have_no_error_and_certain_mistakes_all():
    scores = np.repeat([0.25, 0.75], 400)
    labels = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    for equal_mass in (False, True):
        assert metrics.ece(labels, scores, equal_mass=equal_mass) == pytest.approx(0)
    assert metrics.ece(np.array([True, False]), np.array([0.0, 1.0])) == 1
    assert np.isnan(metrics.ece(np.zeros(0, bool), np.zeros(0)))


def test_brier_by_hand():
    assert metrics.brier(np.array([True, False]), np.array([0.8, 0.4])) == pytest.approx((0.04 + 0.16) / 2)
    assert metrics.brier(np.array([True, False]), np.array([0.5, 0.5])) == 0.25
