"""Paired differences: signs, intervals, refusals."""

import numpy as np
import pytest

from llmrec.errors import ConfigError
from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import NOT_SIGNIFICANT, paired_differences

INTERVAL = {"kind": "percentile bootstrap over users", "resamples": 500, "level": 0.95, "seed": 0}


def _evaluation(name, values, **protocol):
    protocol = {"recommender": {"name": name}, "fit": "train", "interval": INTERVAL} | protocol
    return Evaluation(protocol, {}, {}, np.arange(len(values)), {"ndcg@10": np.asarray(values, dtype=float)})


def test_a_small_steady_gain_is_seen_although_the_users_differ_a_lot():
    base = np.random.default_rng(0).random(400)
    gain = 0.01 + np.random.default_rng(1).normal(0, 0.02, 400)
    (difference,) = paired_differences(_evaluation("a", base + gain), _evaluation("b", base), ["ndcg@10"])
    assert difference.value == pytest.approx(gain.mean())
    assert 0 < difference.low < difference.value < difference.high < 0.02
    assert difference.verdict == "above"
    (turned,) = paired_differences(_evaluation("b", base), _evaluation("a", base + gain), ["ndcg@10"])
    assert (turned.value, turned.verdict) == (pytest.approx(-difference.value), "below")


def test_equal_recommenders_have_no_significant_difference():
    values = np.random.default_rng(0).random(50)
    (difference,) = paired_differences(_evaluation("a", values), _evaluation("b", values), ["ndcg@10"])
    assert (difference.low, difference.value, difference.high, difference.verdict) == (0, 0, 0, NOT_SIGNIFICANT)
    assert difference.to_json()["verdict"] == "no significant difference"


def test_results_of_two_protocols_are_not_compared():
    with pytest.raises(ConfigError, match=r"a and b cannot be compared: they differ in fit"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0], fit="train+valid"), ["ndcg@10"])
    with pytest.raises(ConfigError, match="differ in their users"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0, 1]), ["ndcg@10"])
    with pytest.raises(ConfigError, match="no per-user values of mrr@10"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0]), ["mrr@10"])
