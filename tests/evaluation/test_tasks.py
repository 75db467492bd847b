"""Evaluation tasks: the shipped file, overrides, and mistakes in words."""

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.tasks import CandidatesTask, ClicksTask, RankingTask, load_any_task, load_task, task_names


def test_the_shipped_task_is_leave_one_out_over_the_whole_catalogue():
    task = load_task("leave_one_out")
    assert "leave_one_out" in task_names()
    assert (task.name, task.fit, task.candidates, task.exclude_seen) == ("leave_one_out", "train", "all", True)
    assert task.ks == (1, 5, 10, 20)
    assert (task.interval.resamples, task.interval.level) == (1000, 0.95)


def test_overrides_replace_keys_and_are_checked_like_the_file():
    task = load_task("leave_one_out", ["fit=train+valid", "exclude_seen=false", "interval.seed=7"])
    assert (task.fit, task.exclude_seen, task.interval.seed) == ("train+valid", False, 7)
    with pytest.raises(ConfigError, match=r"unknown setting 'exclude_sen'.*'exclude_seen'"):
        load_task("leave_one_out", ["exclude_sen=true"])
    with pytest.raises(ConfigError, match=r"'fit'.*does not fit"):
        load_task("leave_one_out", ["fit=test"])
    with pytest.raises(ConfigError, match="should be rising numbers"):
        load_task("leave_one_out", ["ks=[10, 5]"])


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no task 'leave-one-out'.*Did you mean 'leave_one_out'"):
        load_task("leave-one-out")


def test_a_task_of_ones_own_is_read_from_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nversion: 2\nsplit: {policy: by_user, seed: 3}\nmetrics: [ndcg]\nks: [10]\n")
    task = load_task(path)
    data = Interactions(np.arange(0, 31, 3), np.arange(30), 30)
    split = task.split.make(data)
    assert (split.name, len(split.test), task.version) == ("by_user", 1, 2)


def test_a_task_file_that_is_missing_or_broken_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="none"):
        load_task(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match="YAML"):
        load_task(tmp_path / "broken.yaml")


def test_the_kind_of_a_task_says_what_it_asks(tmp_path):
    kinds = {name: type(load_any_task(name)) for name in task_names()}
    of_clicks = {"clicks", "collm_ml1m", "tallrec_movie", "recbench/clicks", "recbench/published_clicks"}
    among_candidates = {"sampled_candidates", "sampled_candidates_popular", "sampled_candidates_shuffled"}
    assert {name for name, kind in kinds.items() if kind is ClicksTask} == of_clicks
    assert {name for name, kind in kinds.items() if kind is CandidatesTask} == among_candidates
    assert {name for name, kind in kinds.items() if kind is RankingTask} == set(kinds) - of_clicks - among_candidates
    assert set(kinds) >= {"leave_one_out", "temporal", "recbench/next_item", "amazon/leave_one_out_train_valid"}
    assert all(load_any_task(name).name == name for name in kinds)
    assert not load_task("leave_one_out_unfiltered").exclude_seen
    assert load_any_task("sampled_candidates", ["num_candidates=5"]).num_candidates == 5
    with pytest.raises(ConfigError, match="'ranking' is needed here, but 'clicks' is of the kind 'clicks'"):
        load_task("clicks")
    (tmp_path / "odd.yaml").write_text("{kind: chat, name: odd, version: 1}")
    with pytest.raises(ConfigError, match=r"one of ranking, candidates, clicks, but .* says 'chat'"):
        load_any_task(tmp_path / "odd.yaml")
    with pytest.raises(ConfigError, match="unknown setting 'exclude_seen'"):
        load_any_task("sampled_candidates", ["exclude_seen=true"])


def test_a_policy_may_be_named_alone_and_an_unknown_one_is_a_sentence(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, version: 1, split: temporal, metrics: [ndcg], ks: [10]}")
    assert load_task(path).split.test_quantile == 0.9
    path.write_text("{kind: clicks, name: mine, version: 1, split: last}")
    assert load_any_task(path).split.valid == 0.1
    path.write_text("{kind: clicks, name: mine, version: 1, split: {policy: leave_one_out}}")
    with pytest.raises(ConfigError, match=r"'split'.*does not fit.*recbench"):
        load_any_task(path)


def data_of(interactions: Interactions) -> Data:
    rows = [{"item_id": str(item), "title": f"Item {item}"} for item in range(interactions.num_items)]
    users = [str(user) for user in range(interactions.num_users)]
    return Data(Catalog.from_rows(rows), interactions, Features(interactions.num_items), users)


def test_users_to_learn_from_are_limited_by_seed_and_the_questions_stay():
    data = data_of(Interactions(np.arange(0, 101, 5), np.arange(100), 100))
    task = load_task("leave_one_out")
    whole = task.make(data)
    few, again, other = (
        load_task("leave_one_out", ["max_train_users=4", f"train_seed={seed}"]).make(data) for seed in (1, 1, 2)
    )
    assert np.count_nonzero(few.train.lengths) == np.count_nonzero(few.train_valid.lengths) == 4
    np.testing.assert_array_equal(few.train.lengths, again.train.lengths)
    assert (few.train.lengths != other.train.lengths).any()
    np.testing.assert_array_equal(few.test.targets, whole.test.targets)
    assert few.card["events"] == {"train": 12, "train+valid": 16}
    assert few.card["max_train_users"] == {"users": 4, "seed": 1} and "max_train_users" not in whole.card


def test_click_rows_are_limited_by_seed_and_the_protocol_says_so():
    times = np.tile(np.arange(20), 10)
    data = data_of(Interactions(np.arange(0, 201, 20), np.arange(200) % 50, 50, times))
    overrides = ["max_train_examples=30", "max_test_examples=8", "split.policy=last"]
    few, whole = (load_any_task("clicks", chosen).make(data) for chosen in (overrides, overrides[2:]))
    assert (len(few.train), len(few.test), len(few.valid)) == (30, 8, len(whole.valid))
    assert few.card["train_rows"] == {"most": 30, "sampled": 30, "seed": 0} and "train_rows" not in whole.card


def test_a_given_split_is_asked_of_a_data_folder_that_has_it():
    data = data_of(Interactions(np.arange(0, 101, 5), np.arange(100), 100))
    for name in ("collm_ml1m", "recbench/published_next_item"):
        with pytest.raises(DataError, match="lies in a data folder, but these data are in memory"):
            load_any_task(name).make(data)
