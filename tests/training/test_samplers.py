"""The order in which rows are trained on."""

import numpy as np
import pytest

from llmrec.training.samplers import BranchSampler, LengthSampler

LENGTHS = np.random.default_rng(0).integers(2, 60, 500).tolist()
USERS = np.repeat(np.arange(60), np.random.default_rng(1).integers(0, 30, 60))


def batches(sampler, size=8):
    order = list(sampler)
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize("make", [lambda: LengthSampler(8, LENGTHS, seed=3), lambda: BranchSampler(8, USERS, seed=3)])
def test_every_row_comes_once_an_epoch_in_an_order_that_the_epoch_decides(make):
    sampler = make()
    first = list(sampler)
    assert sorted(first) == list(range(len(sampler)))
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first and sorted(second) == sorted(first)
    sampler.set_epoch(0)
    assert list(sampler) == first == list(make())


def test_rows_of_a_batch_have_like_length():
    def padding(batches):
        lengths = [[LENGTHS[row] for row in batch] for batch in batches]
        return sum(max(batch) * len(batch) - sum(batch) for batch in lengths)

    in_order = [list(range(start, start + 8)) for start in range(0, 496, 8)]
    assert padding(batches(LengthSampler(8, LENGTHS, seed=0))) < 0.3 * padding(in_order)


def test_batches_of_long_and_short_rows_are_mixed():
    means = [np.mean([LENGTHS[row] for row in batch]) for batch in batches(LengthSampler(8, LENGTHS, seed=0))]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.5, "a batch's length says little of the next one's"


def test_a_user_of_many_rows_fills_batches_alone():
    alone = [batch for batch in batches(BranchSampler(8, USERS, seed=0)) if len(set(USERS[batch])) == 1]
    expected = sum(int(count) // 8 for count in np.bincount(USERS))
    assert len(alone) >= expected > 50
    assert all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in alone), "neighbours share most"


def test_batches_of_one_user_do_not_come_in_a_row():
    users = [USERS[batch[0]] for batch in batches(BranchSampler(8, USERS, seed=0))]
    assert np.mean(np.array(users[1:]) == np.array(users[:-1])) < 0.2


def test_users_without_rows_and_users_of_one_row_are_no_trouble():
    assert sorted(BranchSampler(4, np.array([2, 5, 5, 9]), seed=0)) == [0, 1, 2, 3]
    assert list(BranchSampler(4, np.zeros(0, dtype=np.int64), seed=0)) == []
