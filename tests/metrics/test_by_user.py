"""NDCG, recall, MRR and average precision within users: by hand, and by every order of the rows that tie."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec import metrics


def test_one_user_by_hand():
    # Falling: .9 no, .8 yes, .5 yes, .1 no: liked at ranks 2 and 3.
    rows = metrics.ranked_rows(
        np.array([True, False, True, False]), np.array([0.5, 0.9, 0.8, 0.1]), np.array([7, 7, 7, 7])
    )
    assert rows.users.tolist() == [7]
    assert metrics.user_ndcg(rows, 1) == [0]
    both = 1 / np.log2(3) + 1 / np.log2(4)
    assert metrics.user_ndcg(rows, 5) == pytest.approx([both / (1 + 1 / np.log2(3))])
    assert metrics.user_recall(rows, 2) == pytest.approx([1 / 2])
    assert metrics.user_mrr(rows) == pytest.approx([1 / 2])
    assert metrics.user_average_precision(rows) == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_users_of_one_class_are_left_out():
    labels, users = np.array([True, True, False, True, False]), np.array([1, 1, 2, 3, 3])
    rows = metrics.ranked_rows(labels, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), users)
    assert rows.users.tolist() == [3] and metrics.user_mrr(rows) == pytest.approx([1 / 2])
    alone = metrics.ranked_rows(np.ones(3, bool), np.arange(3.0), np.arange(3))
    for values in (metrics.user_ndcg(alone, 5), metrics.user_recall(alone, 1), metrics.user_mrr(alone)):
        assert values.shape == (0,)
    assert metrics.user_average_precision(alone).shape == (0,)


def test_a_constant_scorer_gets_what_a_random_order_gets():
    labels, users = np.tile([True, False, False, False], 3), np.repeat(np.arange(3), 4)
    rows = metrics.ranked_rows(labels, np.full(12, 0.5), users)
    assert metrics.user_recall(rows, 1) == pytest.approx([1 / 4] * 3)
    assert metrics.user_mrr(rows) == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4] * 3)
    assert metrics.user_average_precision(rows) == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4] * 3)


def _of_one_order(labels):
    """What liked rows earn in an order without ties: recall@1, recall@5, NDCG@1, NDCG@5, MRR, average precision."""
    ranks = np.flatnonzero(labels) + 1
    dcg = [sum(1 / np.log2(r + 1) for r in ranks if r <= k) for k in (1, 5)]
    ideal = [sum(1 / np.log2(r + 1) for r in range(1, min(k, len(ranks)) + 1)) for k in (1, 5)]
    precision = np.mean([(ranks <= r).sum() / r for r in ranks])
    return [(ranks <= 1).mean(), (ranks <= 5).mean(), dcg[0] / ideal[0], dcg[1] / ideal[1], 1 / ranks[0], precision]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=2, max_size=5))
def test_expectations_equal_the_mean_over_every_order_of_the_rows(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    if labels.all() or not labels.any():
        return
    expected = []
    for order in permutations(range(len(rows))):  # a stable sort of each order breaks ties by that order
        order = np.array(order)
        expected.append(_of_one_order(labels[order][np.argsort(-scores[order], kind="stable")]))
    # Another user before and one after: rows of others change nothing.
    around = np.array([True, False, True, True, False])
    ranked = metrics.ranked_rows(
        np.concatenate([around[:2], labels, around[2:]]),
        np.concatenate([[1.0, 1.0], scores, [2.0, 0.0, 0.0]]),
        np.array([3, 3, *[5] * len(rows), 8, 8, 8]),
    )
    found = [
        metrics.user_recall(ranked, 1), metrics.user_recall(ranked, 5), metrics.user_ndcg(ranked, 1), metrics.user_ndcg(ranked, 5),
        metrics.user_mrr(ranked), metrics.user_average_precision(ranked),
    ]  # fmt: skip
    assert [values[1] for values in found] == pytest.approx(np.mean(expected, axis=0).tolist())
