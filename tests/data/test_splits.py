import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import by_user, leave_one_out, temporal
from llmrec.errors import ConfigError, DataError


@st.composite
def interactions_with_distinct_events(draw):
    """Every event has an item of its own, so that an item found anywhere tells exactly which event it is."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=3, max_size=12).filter(lambda n: sum(k >= 3 for k in n) >= 3))
    num_events = sum(lengths)
    items = np.array(draw(st.permutations(range(num_events))))
    times = [t for n in lengths for t in sorted(draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)))]
    return Interactions(np.cumsum([0, *lengths]), items, num_events, times)


def assert_nothing_leaks(whole, split):
    for fitted, instances in ((split.train, split.valid), (split.train_valid, split.test)):
        assert not np.isin(instances.targets, fitted.items).any()
        for row, (user, history, target) in enumerate(
            zip(instances.users, instances.histories, instances.targets, strict=True)
        ):
            events = whole.histories[user].tolist()
            assert len(history) and history.tolist() == events[: len(history)]
            assert target == events[len(history)]
            assert instances.times[row] == whole.times[whole.indptr[user] + len(history)]
    for fitted in (split.train, split.train_valid):
        assert fitted.num_users == whole.num_users
        for user in range(whole.num_users):
            assert fitted.histories[user].tolist() == whole.histories[user].tolist()[: fitted.lengths[user]]
    assert np.isin(split.train.items, split.train_valid.items).all()
    assert not np.isin(split.test.targets, split.valid.targets).any()
    assert split.card["events"] == {"train": split.train.num_events, "train+valid": split.train_valid.num_events}
    assert split.card["instances"] == {"valid": len(split.valid), "test": len(split.test)}


@given(interactions_with_distinct_events())
def test_leave_one_out_leaks_nothing_and_counts_add_up(whole):
    split = leave_one_out(whole)
    assert_nothing_leaks(whole, split)
    assert len(split.valid) == len(split.test) == (whole.lengths >= 3).sum()
    assert split.train.num_events + len(split.valid) + len(split.test) == whole.num_events
    assert split.train_valid.num_events + len(split.test) == whole.num_events


def test_users_with_under_three_events_are_learned_from_with_all_they_have():
    whole = Interactions([0, 2, 5, 6], [0, 1, 2, 3, 4, 0], 5)
    split = leave_one_out(whole)
    assert [row.tolist() for row in split.train.histories] == [[0, 1], [2], [0]]
    assert [row.tolist() for row in split.train_valid.histories] == [[0, 1], [2, 3], [0]]
    assert split.valid.users.tolist() == split.test.users.tolist() == [1]
    assert (split.valid.histories[0].tolist(), split.valid.targets.tolist()) == ([2], [3])
    assert (split.test.histories[0].tolist(), split.test.targets.tolist()) == ([2, 3], [4])
    assert split.card["left_out"] == {"users_with_under_3_events": 2}
    assert split.card["cold, fit=train"] == {
        "items": 2, "valid_targets": 1, "test_targets": 1, "valid_users": 0, "test_users": 0,
    }  # fmt: skip


@given(interactions_with_distinct_events(), st.sampled_from([(0.5, 0.25), (0.9, 0.8), (0.7, 0.1)]))
def test_temporal_leaks_nothing_and_cuts_everybody_at_the_same_times(whole, quantiles):
    try:
        split = temporal(whole, *quantiles)
    except DataError as error:
        assert "nothing to ask" in str(error)
        return
    assert_nothing_leaks(whole, split)
    valid_cut, test_cut = split.card["valid_cut"], split.card["test_cut"]
    assert split.train.num_events == (whole.times <= valid_cut).sum()
    assert split.train_valid.num_events == (whole.times <= test_cut).sum()
    assert ((split.valid.times > valid_cut) & (split.valid.times <= test_cut)).all()
    assert (split.test.times > test_cut).all()
    after = {u for u in range(whole.num_users) if (whole.times[whole.indptr[u] : whole.indptr[u + 1]] > test_cut).any()}
    assert len(after) == len(split.test) + split.card["left_out"]["test_users_without_history"]


def test_temporal_by_hand():
    # times:                     user 0: 1 2 9 10          user 1: 8 9      user 2: 3 4
    whole = Interactions([0, 4, 6, 8], [0, 1, 2, 3, 4, 5, 6, 7], 8, [1, 2, 9, 10, 8, 9, 3, 4])
    split = temporal(whole, test_quantile=0.75, valid_quantile=0.5)
    assert (split.card["valid_cut"], split.card["test_cut"]) == (4, 9)
    assert [row.tolist() for row in split.train.histories] == [[0, 1], [], [6, 7]]
    assert (split.valid.users.tolist(), split.valid.targets.tolist()) == ([0], [2])
    assert (split.test.users.tolist(), split.test.targets.tolist()) == ([0], [3])
    assert split.test.histories[0].tolist() == [0, 1, 2]
    assert split.card["left_out"] == {"valid_users_without_history": 1, "test_users_without_history": 0}


@given(interactions_with_distinct_events(), st.integers(0, 3))
def test_by_user_learns_nothing_from_held_out_users(whole, seed):
    split = by_user(whole, valid=0.2, test=0.3, seed=seed)
    assert_nothing_leaks(whole, split)
    assert not split.train.lengths[split.valid.users].any() and not split.train_valid.lengths[split.test.users].any()
    assert (split.train_valid.lengths[split.valid.users] == whole.lengths[split.valid.users]).all()
    assert not np.intersect1d(split.valid.users, split.test.users).size
    again = by_user(whole, valid=0.2, test=0.3, seed=seed)
    assert again.test.users.tolist() == split.test.users.tolist()


def test_what_cannot_be_split_is_said_in_words():
    short = Interactions([0, 2, 4], [0, 1, 0, 1], 2)
    with pytest.raises(DataError, match="leave-one-out needs users with 3 events or more, but none of the 2 users"):
        leave_one_out(short)
    with pytest.raises(DataError, match="a temporal split needs a time for every event"):
        temporal(short)
    with pytest.raises(DataError, match="a split by user needs at least 3 users"):
        by_user(short)
    with pytest.raises(ConfigError, match="shares of users"):
        by_user(short, valid=0.5, test=0.5)
    timed = Interactions([0, 2], [0, 1], 2, [5, 5])
    with pytest.raises(DataError, match="nothing to ask"):
        temporal(timed)
    with pytest.raises(ConfigError, match="0 < valid_quantile < test_quantile < 1"):
        temporal(timed, 0.5, 0.9)
    with pytest.raises(ConfigError, match=r"fit should be 'train' or 'train\+valid', but it is 'all'"):
        leave_one_out(Interactions([0, 3], [0, 1, 0], 2)).fitted("all")


def test_both_fits_are_there_by_name():
    split = leave_one_out(Interactions([0, 3], [0, 1, 0], 2))
    assert split.fitted("train") is split.train and split.fitted("train+valid") is split.train_valid


def test_users_without_any_event_stay_numbered():
    histories = Histories.from_lists([[], [0, 1, 2], []])
    split = leave_one_out(Interactions(histories.indptr, histories.items, 3))
    assert split.train.num_users == 3 and split.test.users.tolist() == [1]
