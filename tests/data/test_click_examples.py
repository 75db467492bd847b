"""Click rows: by hand on a few events, no look ahead by perturbing what comes later, and the real MovieLens-100K."""

from itertools import pairwise

import numpy as np
import pytest

from llmrec.data.click_examples import PADDING, ClickExamples, click_examples
from llmrec.data.folder import load_data
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, DataError


def random_events(seed=0, num_users=40, num_items=30, rated=True):
    """Ratings 1..5, with many events of one second."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 30, num_users)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([np.sort(rng.integers(0, 200, n)) for n in lengths])
    ratings = rng.integers(1, 6, indptr[-1]).astype(np.float32)
    items = rng.integers(0, num_items, indptr[-1]).astype(np.int32)
    return Interactions(indptr, items, num_items, times, ratings if rated else None)


def all_rows(split) -> list[tuple]:
    """Every row of every part as a tuple that can be compared."""
    return [
        (name, int(rows.users[n]), int(rows.items[n]), int(rows.times[n]), bool(rows.labels[n]), rows.histories[n].tolist(),
         int(rows.answered[n]), int(rows.liked[n]))
        for name, rows in (("train", split.train), ("valid", split.valid), ("test", split.test))
        for n in range(len(rows))
    ]  # fmt: skip


def test_rows_of_one_user_by_hand():
    #        second:  1     2     2     3     4     5     6
    items = np.array([0, 1, 2, 3, 4, 5, 6])
    ratings = np.array([5, 4, 1, 3, 5, 2, 4], dtype=np.float32)
    events = Interactions([0, 7], items, 7, np.array([1, 2, 2, 3, 4, 5, 6]), ratings)
    # A second user of the opposite taste, because a part of one class is refused.
    both = Interactions(
        [0, 7, 14], np.tile(items, 2), 7, np.tile(events.times, 2), np.concatenate([ratings, 6 - ratings])
    )
    split = click_examples(both, split="last", valid=1 / 3, test=1 / 3, max_history=2, min_history=0)
    # Labelled: 0 + | 1 +, 2 - at one second | 4 + | 5 - | 6 + ; item 3 (rating 3) is dropped.
    rows = [row for row in all_rows(split) if row[1] == 0]
    assert (
        rows
        == [
            ("train", 0, 0, 1, True, [PADDING, PADDING], 0, 0),
            ("train", 0, 1, 2, True, [PADDING, 0], 1, 1),
            ("train", 0, 2, 2, False, [PADDING, 0], 1, 1),
            ("valid", 0, 4, 4, True, [0, 1], 3, 2),
            ("test", 0, 5, 5, False, [1, 4], 4, 3),
            ("test", 0, 6, 6, True, [1, 4], 5, 3),
        ]
        or rows
    )


@pytest.mark.parametrize("which", ["time", "last"])
def test_histories_equal_a_loop_over_strictly_earlier_likes(which):
    events = random_events()
    split = click_examples(events, split=which, max_history=4, min_history=0)
    users = np.repeat(np.arange(events.num_users), events.lengths)
    expected = []
    for n in range(events.num_events):
        if events.ratings[n] == 3:
            continue
        earlier = (users == users[n]) & (events.times < events.times[n])
        likes = events.items[earlier & (events.ratings >= 4)]
        answered = int((earlier & (events.ratings != 3)).sum())
        history = [PADDING] * max(0, 4 - len(likes)) + likes[-4:].tolist()
        expected.append(
            (
                int(users[n]),
                int(events.items[n]),
                int(events.times[n]),
                bool(events.ratings[n] >= 4),
                history,
                answered,
                len(likes),
            )
        )
    assert sorted(row[1:] for row in all_rows(split)) == sorted(expected)


def test_what_happens_later_changes_no_earlier_row():
    events = random_events()
    later = events.times > 100
    rng = np.random.default_rng(9)
    items, ratings = events.items.copy(), events.ratings.copy()
    items[later] = rng.integers(0, 30, later.sum())
    ratings[later] = rng.integers(1, 6, later.sum())
    changed = Interactions(events.indptr, items, 30, events.times, ratings)
    before, after = (
        sorted(row[1:] for row in all_rows(click_examples(some, min_history=0)) if row[3] <= 100)
        for some in (events, changed)
    )
    assert before == after and len(before) > 100


def test_of_two_events_of_one_second_neither_is_in_the_other_s_history():
    events = random_events()
    ratings = events.ratings.copy()
    ratings[events.times == 100] = 5  # liked, all of them
    everything_liked = Interactions(events.indptr, events.items, 30, events.times, ratings)
    ratings = ratings.copy()
    ratings[events.times == 100] = 1
    nothing_liked = Interactions(events.indptr, events.items, 30, events.times, ratings)
    histories = [
        sorted(
            (row[1], row[2], row[5], row[6], row[7])
            for row in all_rows(click_examples(some, min_history=0))
            if row[3] == 100
        )
        for some in (everything_liked, nothing_liked)
    ]
    assert histories[0] == histories[1] and len(histories[0]) > 3


def test_a_split_in_time_has_all_train_rows_before_all_valid_rows_before_all_test_rows():
    split = click_examples(random_events())
    assert split.train.times.max() < split.valid.times.min() <= split.valid.times.max() < split.test.times.min()
    assert split.train.times.max() == split.card["train_until"] and split.valid.times.max() <= split.card["valid_until"]


def test_a_split_of_each_user_never_divides_a_second_and_is_in_order():
    split = click_examples(random_events(), split="last", min_history=0)
    for user in range(40):
        own = [rows.times[rows.users == user] for rows in (split.train, split.valid, split.test)]
        own = [times for times in own if len(times)]
        assert all(a.max() < b.min() for a, b in pairwise(own))


def test_without_ratings_each_event_gets_a_negative_of_an_item_its_user_never_touches():
    events = random_events(rated=False)
    split = click_examples(events, seed=3)
    users = np.repeat(np.arange(events.num_users), events.lengths)
    touched = set(zip(users.tolist(), events.items.tolist(), strict=True))
    for rows in (split.train, split.valid, split.test):
        assert rows.labels.mean() == 0.5
        positive, negative = rows.take(rows.labels), rows.take(~rows.labels)
        for name in ("users", "histories", "times"):
            assert np.array_equal(getattr(positive, name), getattr(negative, name))
        assert touched.isdisjoint(zip(negative.users.tolist(), negative.items.tolist(), strict=True))
    assert all_rows(split) == all_rows(click_examples(events, seed=3)) != all_rows(click_examples(events, seed=4))


def test_a_user_who_touched_everything_gets_no_negative():
    items = np.concatenate([np.arange(4), [0, 1, 0, 1]]).astype(np.int32)
    events = Interactions([0, 4, 8], items, 4, np.tile(np.arange(4), 2))
    split = click_examples(events, valid=0.25, test=0.25, min_history=0)
    rows = all_rows(split)
    assert {row[1] for row in rows if not row[4]} == {1} and {row[1] for row in rows if row[4]} == {0, 1}


def test_a_split_in_time_without_times_and_impossible_settings_are_refused_in_words():
    events = random_events()
    without_times = Interactions(events.indptr, events.items, 30, None, events.ratings)
    with pytest.raises(DataError, match="only an order"):
        click_examples(without_times)
    assert len(click_examples(without_times, split="last").test)
    with pytest.raises(ConfigError, match="shares"):
        click_examples(events, valid=0.5, test=0.5)
    with pytest.raises(ConfigError, match="negative_below"):
        click_examples(events, negative_below=5)
    liked = Interactions(events.indptr, events.items, 30, events.times, np.full_like(events.ratings, 5))
    with pytest.raises(DataError, match="both classes"):
        click_examples(liked)


def test_the_card_counts_the_real_rows_of_movielens(movielens):
    split = click_examples(load_data(movielens).interactions)
    card = split.card
    total = sum(part["rows"] for part in card["parts"].values()) + card["rows_without_history"]
    assert total == 100_000 - 27_145  # all but the ratings of 3
    assert card["parts"]["test"]["rows"] == len(split.test) > 6000
    assert (split.test.histories[:, -1] != PADDING).all()
    assert isinstance(split.train, ClickExamples) and split.train.histories.shape == (len(split.train), 20)


@pytest.mark.parametrize("length", [3, 8, 9, 10])
def test_a_split_of_each_user_asks_the_last_row_of_short_users_too(length):
    rng = np.random.default_rng(0)
    items, times = rng.integers(0, 30, 20 * length), np.tile(np.arange(length), 20)
    ratings = np.where((np.arange(20)[:, None] + np.arange(length)) % 2, 5.0, 1.0).ravel()
    split = click_examples(Interactions(np.arange(21) * length, items, 30, times, ratings), split="last", min_history=0)
    assert np.bincount(split.test.users).tolist() == [1] * 20 and (split.test.times == length - 1).all()
    assert np.bincount(split.valid.users).tolist() == [1] * 20 and (split.valid.times == length - 2).all()
    assert split.card["users_without_test_row"] == 0


def test_users_without_a_test_row_are_counted():
    #            two rows only | the last two at one second | enough rows
    times = np.array([1, 2, 1, 2, 2, *range(1, 6), *range(1, 6)])
    ratings = np.array([5, 1, 5, 1, 5, *[5, 1, 5, 1, 5], *[1, 5, 1, 5, 1]], np.float32)
    events = Interactions([0, 2, 5, 10, 15], np.arange(15), 15, times, ratings)
    split = click_examples(events, split="last", min_history=0)
    assert split.test.users.tolist() == [2, 3] and split.card["users_without_test_row"] == 2
    assert sorted(split.train.users.tolist()) == [0, 0, 1, *[2] * 3, *[3] * 3]
