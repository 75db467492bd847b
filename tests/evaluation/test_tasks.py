"""Evaluation tasks: the shipped file, overrides, and mistakes in words."""

import numpy as np
import pytest

from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
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
    assert kinds == {
        "leave_one_out": RankingTask, "leave_one_out_unfiltered": RankingTask, "sampled_candidates": CandidatesTask,
        "clicks": ClicksTask,
    }  # fmt: skip
    assert not load_task("leave_one_out_unfiltered").exclude_seen
    assert load_any_task("sampled_candidates", ["num_candidates=5"]).num_candidates == 5
    with pytest.raises(ConfigError, match="'ranking' is needed here, but 'clicks' is of the kind 'clicks'"):
        load_task("clicks")
    (tmp_path / "odd.yaml").write_text("{kind: chat, name: odd, version: 1}")
    with pytest.raises(ConfigError, match=r"one of ranking, candidates, clicks, but .* says 'chat'"):
        load_any_task(tmp_path / "odd.yaml")
    with pytest.raises(ConfigError, match="unknown setting 'exclude_seen'"):
        load_any_task("sampled_candidates", ["exclude_seen=true"])
