"""The target among sampled candidates, and click figures with their intervals."""

import numpy as np
import pytest

from llmrec import metrics
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.splits import Instances
from llmrec.errors import ConfigError
from llmrec.evaluation.candidates import hit_among, sampled_candidates, task_candidates
from llmrec.evaluation.clicks import ctr_report
from llmrec.evaluation.records import groups_of
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.significance import check_same_questions
from llmrec.evaluation.tasks import load_any_task
from llmrec.recommenders.requests import DenseRecommender

CASES = Instances(np.arange(40, dtype=np.int32), Histories.from_lists([[1, 2]] * 40), np.full(40, 3, np.int32), None)


class Fixed(DenseRecommender):
    """The same scores for everybody."""

    name = "fixed"

    def __init__(self, scores):
        self._scores = np.asarray(scores, dtype=np.float32)
        self.num_items = len(scores)

    def scores(self, requests):
        return np.tile(self._scores, (len(requests), 1))


def test_candidates_are_the_target_and_items_the_user_has_not_had():
    candidates, rows = sampled_candidates(CASES, 10, 5, seed=0)
    assert rows.tolist() == list(range(40))
    assert (candidates[:, 0] == 3).all()
    assert all(len(set(row)) == 5 and not {1, 2} & set(row) for row in candidates.tolist())
    np.testing.assert_array_equal(candidates, sampled_candidates(CASES, 10, 5, seed=0)[0])


def test_hits_are_counted_by_hand():
    best = [0, 0, 0, 9, 1, 1, 1, 1, 1, 1]
    assert hit_among(Fixed(best), CASES, 5, max_instances=40, seed=0)["hit@1"] == 1.0
    assert hit_among(Fixed([-score for score in best]), CASES, 5, max_instances=40, seed=0)["hit@1"] == 0.0
    equal = hit_among(Fixed(np.zeros(10)), CASES, 5, max_instances=7, seed=0)
    assert (equal["instances"], equal["hit@1"]) == (7, pytest.approx(1 / 5))


def test_no_instances_have_no_hit_ratio():
    found = hit_among(Fixed(np.zeros(10)), CASES, 5, max_instances=0, seed=0)
    assert found == {"instances": 0, "left_out": 0, "candidates": 5, "hit@1": None, "low": None, "high": None}


def test_a_list_longer_than_what_is_left_is_refused():
    with pytest.raises(
        ConfigError, match=r"of 10 no user has more than 7 left; set next_item.num_candidates=8 or less"
    ):
        sampled_candidates(CASES, 10, 9, seed=0, setting="next_item.num_candidates")
    assert sampled_candidates(CASES, 10, 8, seed=0)[0].shape == (40, 8)


def test_a_user_who_has_had_nearly_everything_is_left_out_and_counted():
    histories = Histories.from_lists([[1, 2], [0, 1, 2, 4, 5, 6, 7, 8], [1]])
    instances = Instances(np.arange(3, dtype=np.int32), histories, np.full(3, 3, np.int32), None)
    found = hit_among(Fixed([0, 0, 0, 9, 0, 0, 0, 0, 0, 0]), instances, 5, max_instances=3, seed=0)
    assert (found["instances"], found["left_out"], found["hit@1"]) == (2, 1, 1.0)


def test_click_figures_lie_in_their_intervals():
    rng = np.random.default_rng(0)
    labels, users = rng.random(200) < 0.5, np.repeat(np.arange(20, dtype=np.int32), 10)
    zeros = np.zeros(200, np.int32)
    rows = ClickExamples(users, zeros, labels, zeros[:, None], zeros, zeros, None)
    scores = labels + rng.normal(size=200)
    found = ctr_report(rows, scores)
    assert found["auc"]["value"] == metrics.auc(labels, scores)
    for figure in found.values():
        assert figure["low"] < figure["value"] < figure["high"]


def test_a_gauc_that_does_not_exist_is_none():
    zeros, labels = np.zeros(4, np.int32), np.array([True, False, True, False])
    rows = ClickExamples(np.arange(4, dtype=np.int32), zeros, labels, zeros[:, None], zeros, zeros, None)
    found = ctr_report(rows, np.array([0.9, 0.1, 0.8, 0.2]))
    assert found["auc"]["value"] == 1.0
    assert found["gauc"] == {"value": None, "low": None, "high": None}, "no user has examples of both classes"


def test_candidates_by_popularity_follow_the_counts_and_never_are_items_without_events():
    counts = np.array([0, 9, 9, 9, 30, 10, 0, 0, 0, 1])
    candidates, rows = sampled_candidates(CASES, 10, 3, seed=0, counts=counts)
    assert len(rows) == 40 and (candidates[:, 0] == 3).all() and set(candidates[:, 1:].ravel()) == {4, 5, 9}
    assert (candidates[:, 1] == 4).sum() > (candidates[:, 1] == 5).sum() > (candidates[:, 1] == 9).sum()
    with pytest.raises(ConfigError, match="no user has more than 3 left"):
        sampled_candidates(CASES, 10, 5, seed=0, counts=counts)


def test_a_task_s_candidates_say_that_they_are_sampled_and_shuffling_changes_the_order_alone():
    events = Interactions(np.arange(0, 161, 4), np.tile(np.arange(16), 10), 16)
    task = load_any_task("sampled_candidates", ["num_candidates=5"])
    split = task.split.make(events)
    plain, rows = task_candidates(task, split, split.test)
    moved, same_rows = task_candidates(task.model_copy(update={"shuffle": True}), split, split.test)
    assert (plain[:, 0] == split.test.targets).all() and (moved[:, 0] != split.test.targets).any()
    np.testing.assert_array_equal(np.sort(plain), np.sort(moved))
    np.testing.assert_array_equal(rows, same_rows)
    popular = load_any_task("sampled_candidates_popular", ["shuffle=true"])
    assert task.candidates.startswith("sampled: the target and 4 items") and "by popularity" in popular.candidates
    assert "in an order of chance" in popular.candidates and "sampled" in popular.summary


def test_sampled_candidates_never_stand_in_one_table_with_the_whole_catalogue():
    events = Interactions(np.arange(0, 161, 4), np.tile(np.arange(16), 10), 16)
    rows = [{"item_id": str(item), "title": f"Item {item}"} for item in range(16)]
    data = Data(Catalog.from_rows(rows), events, Features(16), [str(user) for user in range(40)])
    found = []
    for name in ("leave_one_out", "sampled_candidates", "sampled_candidates_popular"):
        among = [] if name == "leave_one_out" else ["num_candidates=5"]
        task = load_any_task(name, ["metrics=[ndcg]", "ks=[1, 3]", *among])
        found.append(evaluate(fit_baseline("popularity", task.make(data), "train"), data, task))
    assert [len(group) for group in groups_of(found)] == [1, 1, 1]
    assert ["sampled" in each.protocol["candidates"] for each in found] == [False, True, True]
    with pytest.raises(ConfigError, match=r"cannot be compared: they differ in task\.name"):
        check_same_questions(found[0], found[1])
