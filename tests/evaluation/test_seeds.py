"""Runs of several seeds as one: mean, spread, and what holds for each of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from llmrec.errors import ConfigError
from llmrec.evaluation.runner import Evaluation, means, slices_of
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.significance import paired_differences, renamed
from llmrec.evaluation.tasks import Interval
from llmrec.evaluation.verdicts import contests, sentence

INTERVAL = Interval(resamples=200)
BASE = np.random.default_rng(0).random(300)
MASKS = {"new_target": np.arange(300) < 100}


def result(values, name="llm", kind="model", **card):
    """An evaluation of one metric by user, and of coverage."""
    protocol = {"recommender": {"name": name, **card}, "interval": {"kind": "bootstrap", **INTERVAL.model_dump()}}
    per_user = {"ndcg@10": np.asarray(values)}
    metrics = means(per_user, INTERVAL) | {"coverage@10": {"value": float(np.mean(values)), "low": None, "high": None}}
    return Evaluation(protocol, metrics, slices_of(MASKS, per_user, INTERVAL), np.arange(300), per_user, kind, MASKS)


SEEDS = [result(BASE + shift, dtype=dtype) for shift, dtype in ((0.1, "float32"), (0.2, "float32"), (0.6, "bfloat16"))]


def test_the_mean_of_seeds_holds_every_value_and_their_spread():
    found = over_seeds(SEEDS, [0, 1, 7])
    ndcg = found.metrics["ndcg@10"]
    assert ndcg["value"] == pytest.approx(BASE.mean() + 0.3) and ndcg["low"] < ndcg["value"] < ndcg["high"]
    assert ndcg["seeds"] == [each.metrics["ndcg@10"]["value"] for each in SEEDS]
    assert ndcg["std"] == pytest.approx(np.sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2))
    assert found.metrics["coverage@10"]["low"] is None and len(found.metrics["coverage@10"]["seeds"]) == 3
    assert found.slices["new_target"]["num_users"] == 100
    assert found.slices["new_target"]["metrics"]["ndcg@10"]["value"] == pytest.approx(BASE[:100].mean() + 0.3)
    card = found.protocol["recommender"]
    assert card == {"name": "llm", "dtype": ["float32", "float32", "bfloat16"], "seeds": [0, 1, 7]}
    json.dumps(found.to_json(), allow_nan=False)


def test_one_run_is_itself():
    assert over_seeds(SEEDS[:1], [0]) is SEEDS[0]


def test_runs_of_other_users_are_no_seeds_of_one_another():
    with pytest.raises(ConfigError, match="differ in their users"):
        over_seeds([SEEDS[0], replace(SEEDS[1], users=np.arange(1, 301))], [0, 1])


def test_a_difference_of_means_says_what_each_seed_says():
    markov = result(BASE + 0.25 + np.random.default_rng(1).normal(0, 0.1, 300), "markov", "baseline")
    (difference,) = paired_differences(over_seeds(SEEDS, [0, 1, 7]), markov, ["ndcg@10"])
    assert [each.verdict for each in difference.of_seeds] == ["below", "below", "above"]
    for each, seed in zip(difference.of_seeds, SEEDS, strict=True):
        (alone,) = paired_differences(seed, markov, ["ndcg@10"])
        assert (each.value, each.low, each.high) == (alone.value, alone.low, alone.high)
    assert difference.value == pytest.approx(np.mean([each.value for each in difference.of_seeds]))
    words = sentence([difference])
    assert "; by seed −.1" in words and words.endswith("interval above 0 in 1 and below 0 in 2 of 3).")
    assert [each["verdict"] for each in difference.to_json()["seeds"]] == ["below", "below", "above"]


def test_two_groups_of_seeds_are_compared_seed_by_seed_where_they_are_as_many():
    ours, theirs = over_seeds(SEEDS, [0, 1, 2]), renamed(over_seeds(SEEDS[::-1], [0, 1, 2]), "other")
    (difference,) = contests([ours, theirs], ["ndcg@10"])[0]
    assert [round(each.value, 9) for each in difference.of_seeds] == [-0.5, 0, 0.5] and difference.second == "other"
    (difference,) = paired_differences(ours, over_seeds(SEEDS[:2], [0, 1]), ["ndcg@10"])
    assert difference.of_seeds == () and difference.value == pytest.approx(0.15)
