"""Paired differences: signs, intervals, refusals."""

import numpy as np
import pytest
import scipy.stats

from llmrec.errors import ConfigError
from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.significance import NOT_SIGNIFICANT, holm, paired_differences, paired_t
from llmrec.evaluation.verdicts import all_pairs, sentence

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
    with pytest.raises(ConfigError, match=r"a and b cannot be compared: they differ in fit \(train and train\+valid\)"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0], fit="train+valid"), ["ndcg@10"])
    with pytest.raises(ConfigError, match="differ in their users"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0, 1]), ["ndcg@10"])
    with pytest.raises(ConfigError, match="no paired difference of mrr@10"):
        paired_differences(_evaluation("a", [1, 0]), _evaluation("b", [1, 0]), ["mrr@10"])


def test_holm_by_hand():
    # .01 x 4, .02 x 3, .03 x 2, .04 x 1, none below the one before it: .04, .06, .06, .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02] and holm([]) == []


def test_the_p_value_of_rankings_is_scipys_paired_t_test():
    rng = np.random.default_rng(3)
    first, second = rng.random((40, 2)), rng.random((40, 2))
    assert paired_t(first - second) == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    assert paired_t(np.zeros((40, 1))) == [1] and paired_t(np.full((40, 1), 0.25)) == pytest.approx([0])


def test_a_difference_that_stands_alone_may_fall_among_many():
    rng = np.random.default_rng(0)
    base = rng.random(300)
    close = [_evaluation(f"close{n}", base + rng.normal(0, 0.1, 300)) for n in range(9)]
    noise = rng.normal(0, 0.1, 300)
    better = _evaluation("better", base + 0.015 + noise - noise.mean())
    (alone,) = paired_differences(better, _evaluation("base", base), ["ndcg@10"])
    assert alone.verdict == "above" and 0.005 < alone.p < 0.05
    found = all_pairs([better, _evaluation("base", base), *close], ["ndcg@10"])
    (again,) = next(pair for pair in found if (pair[0].first, pair[0].second) == ("better", "base"))
    assert len(found) == 55 == again.num_tests and again.adjusted_p > 0.05 and again.low > 0
    assert again.verdict == NOT_SIGNIFICANT and again.to_json()["adjusted_p"] == again.adjusted_p
    assert "no significant difference in NDCG@10, +" in sentence([again])


def test_under_thirty_users_there_is_no_verdict():
    few = np.random.default_rng(0).random(29)
    (difference,) = paired_differences(_evaluation("a", few + 1), _evaluation("b", few), ["ndcg@10"])
    assert difference.verdict == "no verdict on fewer than 30 users" and difference.low == pytest.approx(1)
    assert sentence([difference]).startswith("a and b: no verdict on fewer than 30 users in NDCG@10, +1.0000 (95 %")
    found = all_pairs([_evaluation(name, [value]) for name, value in (("a", 1.0), ("b", 0.5), ("c", 0.0))], ["ndcg@10"])
    assert found[0][0].to_json()["p"] is None and " p " not in sentence(found[0])  # one user has no spread
    (enough,) = paired_differences(_evaluation("a", [*few + 1, 1.5]), _evaluation("b", [*few, 0.5]), ["ndcg@10"])
    assert enough.verdict == "above"
