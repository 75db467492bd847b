"""Saved results: what comes back can be compared as what was measured, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from llmrec.errors import DataError
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.saved import load_results, save_results, users_path
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.significance import paired_differences, renamed
from llmrec.evaluation.tasks import load_task
from tests.evaluation.test_clicks import scored
from tests.evaluation.test_runner import data_of


@pytest.fixture(scope="module")
def rankings():
    rng = np.random.default_rng(0)
    data = data_of([rng.integers(0, 40, 6).tolist() for _ in range(60)])
    task = load_task("leave_one_out", ["metrics=[ndcg, recall, coverage, gini]"])
    split = task.split.make(data.interactions)
    found = [evaluate(fit_baseline(name, split, task.fit), data, task) for name in ("popularity", "markov")]
    return [renamed(found[0], "mine"), found[1]]


def save(path, results):
    save_results(path, {"evaluations": [each.to_json() for each in results]}, results)


def test_rankings_come_back_with_every_users_values(rankings, tmp_path):
    save(tmp_path / "x.json", rankings)
    found = load_results(tmp_path / "x.json")
    for one, other in zip(found, rankings, strict=True):
        assert one.to_json() == json.loads(json.dumps(other.to_json()))
        assert (one.kind, one.given_name) == (other.kind, other.given_name) and np.array_equal(one.users, other.users)
        assert all(np.array_equal(one.per_user[name], values) for name, values in other.per_user.items())
        assert all(np.array_equal(one.masks[name], mask) and mask.dtype == bool for name, mask in other.masks.items())
    names = ["ndcg@10", "recall@5"]
    assert paired_differences(*found, names) == paired_differences(*rankings, names)


def test_clicks_and_means_over_seeds_come_back_too(rankings, tmp_path):
    mean = over_seeds([scored(seed=seed) for seed in (3, 4)], [3, 4])
    results = [mean, scored("mean", noise=9.0, seed=8, kind="baseline"), rankings[0]]
    save(tmp_path / "x.json", results)
    found = load_results(tmp_path / "x.json")
    assert found[0].metrics == mean.metrics and found[0].slices == mean.slices
    assert found[0].protocol["recommender"]["seeds"] == [3, 4] and len(found[0].of_seeds) == 2
    assert paired_differences(*found[:2], ["auc", "mrr"]) == paired_differences(*results[:2], ["auc", "mrr"])
    assert (
        np.array_equal(found[1].rows.scores, results[1].rows.scores)
        and found[2].per_user.keys() == rankings[0].per_user.keys()
    )


def test_a_file_without_its_users_or_with_those_of_another_is_refused(rankings, tmp_path):
    path = tmp_path / "x.json"
    save(path, rankings[:1])
    save(tmp_path / "y.json", rankings[1:])
    users_path(tmp_path / "y.json").rename(users_path(path))
    with pytest.raises(DataError, match=r"'.*x.users.parquet' belongs to other results than '.*x.json'"):
        load_results(path)
    with pytest.raises(DataError, match=r"no values of users beside it \('y.users.parquet'\).* write it again"):
        load_results(tmp_path / "y.json")
    users_path(path).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        load_results(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="holds no evaluations"):
        load_results(path)
