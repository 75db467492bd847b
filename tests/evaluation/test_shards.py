"""A killed evaluation goes on: nothing that was answered is asked again, the numbers are those of one that ran through."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from llmrec.data.click_examples import click_examples
from llmrec.evaluation import progress, shards
from llmrec.evaluation.clicks import ask_clicks, click_protocol
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.shards import Work, in_shards, weights_of
from llmrec.evaluation.tasks import load_any_task, load_task
from llmrec.recommenders.requests import DenseRecommender
from tests.evaluation.test_runner import NUM_ITEMS, data_of


class Recent(DenseRecommender):
    """Scores items by when they were last seen, counts what it is asked, and is stopped after so many requests."""

    name, num_items = "recent", NUM_ITEMS

    def __init__(self, stop_after=None, **card):
        self.asked, self.stop_after, self.own_card = [], stop_after, card

    @property
    def card(self):
        return self.own_card

    def scores(self, requests):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += requests.users.tolist()
        scores = np.zeros((len(requests), NUM_ITEMS))
        for row, _ in enumerate(scores):
            history = requests.histories[row]
            scores[row, history] = np.arange(len(history))
        return scores


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return data_of([rng.integers(0, NUM_ITEMS, 6).tolist() for _ in range(50)])


@pytest.fixture(autouse=True)
def every_batch_is_a_shard(monkeypatch):
    monkeypatch.setattr(shards, "SECONDS_A_SHARD", 0.0)


TASK = load_task("leave_one_out", ["exclude_seen=false"])


def stopped(data, folder, *, weights="", **card):
    """An evaluation that ends after 20 of 50 users."""
    recommender = Recent(stop_after=20, **card)
    with pytest.raises(KeyboardInterrupt), Work(folder, weights) as work:
        evaluate(recommender, data, TASK, batch=10, work=work)
    assert len(recommender.asked) == 20
    return recommender


def test_a_stopped_evaluation_goes_on_and_leaves_nothing(data, tmp_path):
    before = stopped(data, tmp_path)
    after = Recent()
    with Work(tmp_path) as work:
        found = evaluate(after, data, TASK, batch=10, work=work)
        assert list(tmp_path.iterdir())  # what the block has still to do may fail, too
    assert set(after.asked).isdisjoint(before.asked) and sorted(after.asked + before.asked) == list(range(50))
    whole = evaluate(Recent(), data, TASK, batch=10)
    assert (found.metrics, found.slices) == (whole.metrics, whole.slices)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{"weights": "other"}, {"dim": 64}])
def test_other_weights_or_settings_are_asked_everything(data, tmp_path, other):
    stopped(data, tmp_path)
    other = dict(other)
    after = Recent(**{key: value for key, value in other.items() if key != "weights"})
    with Work(tmp_path, other.get("weights", "")) as work:
        evaluate(after, data, TASK, batch=10, work=work)
    assert len(after.asked) == 50


def test_another_task_or_other_users_are_asked_everything(data, tmp_path):
    stopped(data, tmp_path)
    for task, most, expected in ((load_task("leave_one_out", ["exclude_seen=true"]), None, 50), (TASK, 30, 30)):
        after = Recent()
        with Work(tmp_path) as work:
            evaluate(after, data, task, batch=10, max_instances=most, work=work)
        assert len(after.asked) == expected


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def turned(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(bytes(content))


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, turned, emptied])
def test_a_damaged_shard_is_said_and_asked_again(data, tmp_path, capsys, damage):
    before = stopped(data, tmp_path)
    (place,) = tmp_path.iterdir()
    first, second = sorted(place.iterdir())
    damage(first)
    capsys.readouterr()
    after = Recent()
    with Work(tmp_path) as work:
        found = evaluate(after, data, TASK, batch=10, work=work)
    said = capsys.readouterr().err
    assert f"the shard '{first}' is damaged" in said and "10 of 50 are answered already" in said
    assert sorted(after.asked) == sorted(set(range(50)) - set(before.asked[10:]))
    assert found.metrics == evaluate(Recent(), data, TASK).metrics and list(tmp_path.iterdir()) == []
    assert second.name != first.name


def test_a_short_evaluation_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SECONDS_A_SHARD", 60.0)
    stopped(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_candidates_and_clicks_go_on_too(tmp_path):
    rng = np.random.default_rng(1)
    data = data_of([rng.permutation(NUM_ITEMS)[:12].tolist() for _ in range(100)])
    task = load_any_task("sampled_candidates", ["num_candidates=8", "ks=[1, 4]"])
    before, after = Recent(stop_after=64), Recent()
    with pytest.raises(KeyboardInterrupt), Work(tmp_path) as work:
        evaluate(before, data, task, work=work)
    with Work(tmp_path) as work:
        found = evaluate(after, data, task, work=work)
    assert (len(before.asked), len(after.asked)) == (64, 36) and found.metrics == evaluate(Recent(), data, task).metrics

    task = load_any_task("clicks", ["split=last", "metrics=[auc, gauc, logloss, f1, mrr]"])
    split = click_examples(data.interactions, split="last", test=0.3)
    protocol = click_protocol(data, task, split, "test", split.test)
    assert len(split.test) > 2 * 256

    class Scorer:
        name, card = "scorer", {}

        def __init__(self, stop_after=10**9):
            self.num_asked, self.stop_after = 0, stop_after

        def score_rows(self, rows):
            if self.num_asked >= self.stop_after:
                raise KeyboardInterrupt
            self.num_asked += len(rows)
            return (rows.items * 7 % 10 + 0.5) / 11

    before, after, whole = Scorer(256), Scorer(), Scorer()
    with pytest.raises(KeyboardInterrupt), Work(tmp_path) as work:
        ask_clicks(before, split.test, protocol, task, work=work)
    with Work(tmp_path) as work:
        found = ask_clicks(after, split.test, protocol, task, work=work)
    assert (before.num_asked, after.num_asked) == (256, len(split.test) - 256)
    assert found.metrics == ask_clicks(whole, split.test, protocol, task).metrics and list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
import numpy as np
from pathlib import Path
from llmrec.evaluation import shards
shards.SECONDS_A_SHARD = 0.0
def ask(rows):
    time.sleep(0.05)
    return {"squares": rows ** 2}
with shards.Work(Path(sys.argv[1])) as work:
    shards.in_shards(ask, 1000, 10, "squaring", place=work.place("squares"))
"""


def test_a_killed_process_leaves_whole_shards(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob(".evaluation-*/*.safetensors"))) < 3 and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    asked = []

    def ask(rows):
        asked.extend(rows.tolist())
        return {"squares": rows**2}

    with Work(tmp_path) as work:
        found = in_shards(ask, 1000, 10, "squaring", place=work.place("squares"))
    assert np.array_equal(found["squares"], np.arange(1000) ** 2)
    assert 0 < len(asked) <= 970 and asked[0] >= 30
    assert list(tmp_path.iterdir()) == []


def test_weights_are_told_by_their_files(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights.safetensors").write_bytes(b"1234")
    first = weights_of(tmp_path)
    (tmp_path / ".evaluation-0").mkdir()
    (tmp_path / ".evaluation-0" / "0000.safetensors").write_bytes(b"shard")
    assert weights_of(tmp_path) == first
    (tmp_path / "adapter" / "weights.safetensors").write_bytes(b"1235")
    assert weights_of(tmp_path) != first


def test_where_no_bar_is_drawn_a_line_says_how_much_is_left(monkeypatch, capsys):
    times = iter(np.arange(0, 1000, 40.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    rows = list(progress.batches(100, 20, "asking", done={0}))
    assert [part[0] for part in rows] == [20, 40, 60, 80]
    # After 80 seconds 40 rows of 80 are asked: as long again for the rest.
    assert capsys.readouterr().err == "asking: 60 of 100, about 80 seconds left\n"
    assert [progress.in_words(seconds) for seconds in (40, 720, 12600)] == ["40 seconds", "12 minutes", "3.5 hours"]
