"""RecBench's rules on hand-made and real data: whole users, the right rows of each, and nothing that lies after them."""

import numpy as np
import pytest

from llmrec.data.click_examples import PADDING
from llmrec.data.interactions import Interactions
from llmrec.data.recbench import recbench_clicks, recbench_users
from llmrec.errors import ConfigError, DataError


def implicit(num_users=60, length=6, num_items=200, seed=0):
    rng = np.random.default_rng(seed)
    items = np.concatenate([rng.permutation(num_items)[:length] for _ in range(num_users)])
    return Interactions(np.arange(num_users + 1) * length, items, num_items)


def explicit(num_users=60, length=30, num_items=200, seed=0):
    """Ratings 1 to 5 in turn: 4 and 5 liked, 1 and 2 disliked, 3 dropped."""
    events = implicit(num_users, length, num_items, seed)
    ratings = np.tile(np.arange(length) % 5 + 1, num_users)
    return Interactions(events.indptr, events.items, num_items, np.tile(np.arange(length), num_users), ratings)


def rows_by_user(rows):
    return {user: rows.take(rows.users == user) for user in np.unique(rows.users).tolist()}


def test_implicit_rows_are_the_last_two_items_and_two_that_were_never_touched():
    events = implicit()
    split = recbench_clicks(events, test_rows=40, train_rows=120, max_history=3, seed=1)
    users = {name: set(rows_by_user(getattr(split, name))) for name in ("train", "valid", "test")}
    assert (len(users["test"]), len(users["train"]), len(users["valid"])) == (10, 27, 3)
    assert not users["test"] & (users["train"] | users["valid"]) and not users["train"] & users["valid"]
    for name in users:
        for user, rows in rows_by_user(getattr(split, name)).items():
            own = events.histories[user].tolist()
            assert rows.items[rows.labels].tolist() == own[-2:] and rows.labels.tolist() == [True, True, False, False]
            negatives = rows.items[~rows.labels].tolist()
            assert len(set(negatives)) == 2 and not set(negatives) & set(own)
            assert (rows.histories == own[1:4]).all()  # the last three of all but the last two
    assert split.events.lengths.tolist() == [4] * 60
    assert split.card["split"] == "recbench" and split.card["parts"]["test"]["rows"] == 40


def test_explicit_rows_are_the_last_two_likes_and_at_most_ten_own_dislikes():
    events = explicit()  # of 30: 12 liked, 12 disliked
    split = recbench_clicks(events, test_rows=100, train_rows=300, seed=2)
    for rows in (split.train, split.valid, split.test):
        for user, own in rows_by_user(rows).items():
            start = events.indptr[user]
            rating = dict(
                zip(events.items[start : start + 30].tolist(), events.ratings[start : start + 30], strict=True)
            )
            liked = [item for item, value in rating.items() if value >= 4]
            assert own.items[own.labels].tolist() == liked[-2:] and (~own.labels).sum() == 10
            assert all(rating[item] < 3 for item in own.items[~own.labels].tolist())
            assert own.histories[0][own.histories[0] != PADDING].tolist() == liked[:-2]
    assert len(split.test) == 108  # whole users of 12 rows until there are 100
    assert "rating >= 4 liked" in split.card["labels"]


def test_the_same_seed_is_the_same_split_and_another_asks_others():
    events = implicit()
    one, again, other = (recbench_clicks(events, test_rows=40, train_rows=80, seed=seed) for seed in (3, 3, 4))
    assert one.card["content"] == again.card["content"] != other.card["content"]
    assert set(one.test.users) != set(other.test.users)


def test_what_lies_after_a_user_s_asked_events_changes_no_row_of_anybody_else():
    events = explicit()
    split = recbench_clicks(events, test_rows=100, train_rows=300)
    user = int(split.test.users[0])
    last = int(events.indptr[user + 1]) - 1  # rated 5: the last liked item of this user
    items = events.items.copy()
    items[last] = (set(range(200)) - set(events.histories[user].tolist())).pop()
    changed = recbench_clicks(
        Interactions(events.indptr, items, 200, events.times, events.ratings), test_rows=100, train_rows=300
    )
    np.testing.assert_array_equal(split.test.histories, changed.test.histories)
    differs = np.flatnonzero(split.test.items != changed.test.items)
    assert differs.tolist() == [1] and split.test.labels[1]
    np.testing.assert_array_equal(split.train.items, changed.train.items)
    np.testing.assert_array_equal(split.events.items, changed.events.items)


def test_data_that_the_rules_do_not_fit_are_said_in_a_sentence():
    with pytest.raises(
        DataError, match=r"20,000 rows are to be asked .* 60 of 60 users .* have 240 rows in all.*split.test_rows"
    ):
        recbench_clicks(implicit())
    with pytest.raises(DataError, match="none of the 60 users likes more than 2"):
        recbench_clicks(implicit(length=2), test_rows=4)
    with pytest.raises(DataError, match="nearly all of the 7 items"):
        recbench_clicks(implicit(num_items=7), test_rows=4)
    events = explicit()
    liked = Interactions(events.indptr, events.items, 200, events.times, np.full(1800, 5.0))
    with pytest.raises(DataError, match="no negatives: none lies below 3"):
        recbench_clicks(liked, test_rows=4)
    ratings = np.where(np.arange(1800) < 60, 1.0, 5.0)  # two users dislike everything, the others nothing
    with pytest.raises(DataError, match="no user with more than 2 liked items has a rating below 3"):
        recbench_clicks(Interactions(events.indptr, events.items, 200, events.times, ratings), test_rows=4)
    with pytest.raises(DataError, match="is nobody to validate by"):
        recbench_clicks(implicit(), test_rows=40, train_rows=4)
    with pytest.raises(ConfigError, match="should not exceed"):
        recbench_clicks(events, negative_below=5)
    with pytest.raises(DataError, match=r"only 60 of the 60 users have 2 events or more.*split.test_users"):
        recbench_users(implicit())


def test_users_who_are_asked_teach_nothing_and_only_the_last_events_count():
    events = implicit()
    split = recbench_users(events, test_users=20, train_users=30, max_events=4, seed=5)
    learned, asked = np.flatnonzero(split.train.lengths), split.test.users
    assert (len(asked), len(split.valid), len(learned)) == (20, 3, 27)
    assert not set(asked) & set(np.flatnonzero(split.train_valid.lengths))
    assert set(split.valid.users) == set(np.flatnonzero(split.train_valid.lengths)) - set(learned)
    for user in learned:
        assert split.train.histories[user].tolist() == events.histories[user].tolist()[-4:]
    for instances in (split.valid, split.test):
        for row, user in enumerate(instances.users):
            assert [*instances.histories[row], instances.targets[row]] == events.histories[user].tolist()[-4:]
    assert split.card["max_events"] == 4 and split.card["instances"] == {"valid": 3, "test": 20}
