"""Baselines of clicks: known answers, and what they have never seen."""

import numpy as np
import pytest
from scipy.special import expit, logit

from llmrec import metrics
from llmrec.baselines.click_means import CLICK_BASELINES, make_click_baseline
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.data.interactions import Interactions
from llmrec.data.published.sets import publish
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.tasks import load_any_task


def rows_of(users, items, labels, answered=None, liked=None):
    zeros = np.zeros(len(users), np.int32)
    return ClickExamples(
        np.array(users, np.int32), np.array(items, np.int32), np.array(labels, bool), zeros[:, None] - 1,
        np.array(answered or zeros, np.int32), np.array(liked or zeros, np.int32), None,
    )  # fmt: skip


TRAIN = rows_of([0, 0, 1, 1], [0, 1, 0, 2], [True, False, True, False])
EVENTS = Interactions(np.array([0, 3, 4]), np.array([1, 1, 2, 1]), 4)


def split_with(train=TRAIN):
    return ClickSplit(train, train, train, {}, EVENTS)


def test_popularity_orders_items_by_the_events_of_the_split():
    asked = rows_of([5, 5, 5], [0, 1, 2], [True, False, True])
    assert make_click_baseline("popularity").fit(split_with()).score_rows(asked).tolist() == [1 / 5, 4 / 5, 2 / 5]


def test_means_by_hand():
    asked = rows_of([0, 1, 7], [0, 1, 3], [True, False, True], answered=[4, 0, 2], liked=[3, 0, 1])
    items = [(2 + 0.5) / 3, 0.5 / 2, 0.5]  # shrunk by one example of the half that is liked
    item_mean = make_click_baseline("item_mean", ["item_shrink=1"])
    assert item_mean.fit(split_with()).score_rows(asked) == pytest.approx(items)
    assert item_mean.card == {"item_shrink": 1.0}
    both = make_click_baseline("user_item_mean", ["item_shrink=1", "user_shrink=2"]).fit(split_with())
    assert both.score_rows(asked) == pytest.approx(expit(logit(items) + logit([4 / 6, 0.5, 0.5])))
    train_alone = make_click_baseline("user_item_mean", ["item_shrink=1", "user_shrink=2", "answers=train"])
    one_of_two = expit(logit(items) + logit([0.5, 0.5, 0.5]))  # both users like half of theirs, user 7 is new
    assert train_alone.fit(split_with()).score_rows(asked) == pytest.approx(one_of_two)


@pytest.mark.parametrize("name", CLICK_BASELINES)
def test_what_is_asked_later_changes_no_score_and_labels_are_never_read(name):
    asked = rows_of([0, 1, 7], [0, 1, 3], [True, False, True], answered=[4, 0, 2], liked=[3, 0, 1])
    fitted = make_click_baseline(name).fit(split_with())
    scores = fitted.score_rows(asked)
    others = rows_of([0, 1, 7], [0, 2, 2], [False, True, False], answered=[4, 0, 2], liked=[3, 0, 1])
    assert fitted.score_rows(others)[0] == scores[0] and ((scores > 0) & (scores < 1)).all()


def test_what_a_click_baseline_is_not_or_cannot_is_a_sentence():
    with pytest.raises(ConfigError, match=r"no baseline 'ease' of clicks \(there are: popularity, item_mean"):
        make_click_baseline("ease")
    with pytest.raises(ConfigError, match="unknown setting 'shrink'"):
        make_click_baseline("item_mean", ["shrink=1"])
    with pytest.raises(DataError, match="the split has none"):
        make_click_baseline("item_mean").fit(split_with(TRAIN.take(np.zeros(4, bool))))


def auc_of(name, overrides, split):
    scores = make_click_baseline(name, overrides).fit(split).score_rows(split.test)
    return metrics.auc(split.test.labels, scores)


def test_means_of_collm_s_rows_have_their_known_auc(bench_data, tmp_path):
    split = load_any_task("collm_ml1m").make(publish("collm_ml1m", bench_data / "collm_ml1m", tmp_path / "data"))
    assert [len(split.train), len(split.valid), len(split.test)] == [33_891, 10_401, 7_331]
    assert auc_of("item_mean", ["item_shrink=2"], split) == pytest.approx(0.7081, abs=2e-4)
    two = ["item_shrink=2", "user_shrink=2", "answers=train"]
    assert auc_of("user_item_mean", two, split) == pytest.approx(0.7316, abs=5e-4)


@pytest.mark.slow
def test_microlens_rows_are_recbench_s_and_popularity_has_its_known_auc(bench_data, tmp_path):
    data = publish("microlens50k", bench_data / "microlens50k", tmp_path / "data")
    published, made = (load_any_task(f"recbench/{name}").make(data) for name in ("published_clicks", "clicks"))
    assert auc_of("popularity", [], published) == pytest.approx(0.6356, abs=1e-4)
    for part in ("train", "valid", "test"):  # the same rule gives the same counts, of other users
        ours, theirs = getattr(made, part), getattr(published, part)
        assert len(ours) == len(theirs) and len(np.unique(ours.users)) == len(np.unique(theirs.users))
        assert set(ours.users) != set(theirs.users)
    histories = dict(zip(published.test.users.tolist(), published.test.histories.tolist(), strict=True))
    both = [row for row, user in enumerate(made.test.users.tolist()) if user in histories]
    assert len(both) > 1000
    for row in both:  # a user who is asked by both is asked with the same history
        assert made.test.histories[row].tolist() == histories[int(made.test.users[row])]
    likes = {(user, item) for user, item in zip(published.test.users[published.test.labels].tolist(),
                                                published.test.items[published.test.labels].tolist(), strict=True)}  # fmt: skip
    assert all((int(made.test.users[row]), int(made.test.items[row])) in likes for row in both if made.test.labels[row])
    users = load_any_task("recbench/published_next_item").make(data)
    assert (len(users.test), len(users.valid), np.count_nonzero(users.train.lengths)) == (5_000, 4_000, 36_000)
