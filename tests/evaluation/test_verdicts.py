"""The sentences of a report, also where the model loses."""

import numpy as np
import pytest

from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.verdicts import contests, label, signed, verdicts

INTERVAL = {"kind": "percentile bootstrap over users", "resamples": 200, "level": 0.95, "seed": 0}
NOISE = np.random.default_rng(0).normal(0, 0.05, 300)


def evaluation(name, mean, noise=0.0):
    """Users around `mean`; recommenders without noise of their own differ by the same amount everywhere."""
    values = mean + NOISE + noise * np.random.default_rng(len(name)).normal(0, 1, 300)
    protocol = {"recommender": {"name": name}, "interval": INTERVAL}
    return Evaluation(protocol, {}, {}, np.arange(300), {"ndcg@10": values, "recall@10": values})


BASELINES = [evaluation("popularity", 0.1), evaluation("markov", 0.2), evaluation("ease_r", 0.3)]


def test_the_model_meets_every_baseline_and_the_hybrid_everybody():
    pairs = [
        (c[0].first, c[0].second) for c in contests([*BASELINES, evaluation("llm", 0.2), evaluation("hybrid", 0.4)])
    ]
    assert pairs == [
        ("llm", "popularity"),
        ("llm", "markov"),
        ("llm", "ease_r"),
        ("hybrid", "popularity"),
        ("hybrid", "markov"),
        ("hybrid", "ease_r"),
        ("hybrid", "llm"),
    ]


def test_a_model_that_wins_everywhere_is_said_to():
    found = verdicts([*BASELINES, evaluation("llm", 0.35), evaluation("hybrid", 0.4)])
    assert [verdict.holds for verdict in found] == ["yes", "yes", "yes"]
    assert found[0].sentence == (
        "llm is clearly above popularity. NDCG@10 +.2500 (95 % interval +.2500 to +.2500); "
        "Recall@10 +.2500 (95 % interval +.2500 to +.2500)."
    )
    assert found[2].sentence.startswith(
        "hybrid is clearly above popularity, markov and ease_r. Against popularity NDCG@10 +"
    )


def test_a_model_that_loses_is_said_to_have_lost():
    found = verdicts([*BASELINES, evaluation("llm", 0.05), evaluation("hybrid", 0.29)])
    assert [verdict.holds for verdict in found] == ["no", "no", "no"]
    assert found[0].sentence.startswith("llm is below popularity: it has learned nothing worth serving.")
    assert found[1].sentence.startswith(
        "llm is below markov and ease_r. Alone it is not worth serving: a counter does better."
    )
    assert found[2].sentence.startswith("hybrid is clearly above popularity and markov and below ease_r.")


def test_what_the_users_cannot_settle_is_left_open():
    found = verdicts([*BASELINES, evaluation("llm", 0.3, noise=0.3)])
    assert (found[0].holds, found[1].holds) == ("yes", "open")
    assert "clearly above markov and not clearly above ease_r. Alone it is hardly worth serving" in found[1].sentence


def test_baselines_alone_make_no_claims():
    assert verdicts(BASELINES) == []


@pytest.mark.parametrize(("value", "words"), [(0.0123, "+.0123"), (-0.5, "−.5000"), (0.0, "+.0000"), (1.25, "+1.2500")])
def test_differences_are_written_with_their_sign(value, words):
    assert signed(value) == words


def test_metrics_are_written_as_readers_know_them():
    assert [label(name) for name in ("ndcg@10", "recall@5", "coverage@20", "popularity_bias@10")] == [
        "NDCG@10",
        "Recall@5",
        "Coverage@20",
        "Popularity bias@10",
    ]
