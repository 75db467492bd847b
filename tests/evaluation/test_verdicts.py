"""The sentences of a report: differences with their intervals, the names in them, and what nobody can hit."""

import re

import numpy as np
import pytest

from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.runner import Evaluation
from llmrec.evaluation.verdicts import contests, label, notes, signed, verdicts

INTERVAL = {"kind": "percentile bootstrap over users", "resamples": 200, "level": 0.95, "seed": 0}
NOISE = np.random.default_rng(0).normal(0, 0.05, 300)
NO_OPINION = re.compile("worth|clearly|level with|beats|learned nothing|does better|counter")


def evaluation(name, mean, noise=0.0, *, kind="baseline", recall=None, unreachable=0, exclude_seen=True, **card):
    """Users around `mean`; recommenders without noise of their own differ by the same amount everywhere."""
    values = mean + NOISE + noise * np.random.default_rng(len(name)).normal(0, 1, 300)
    protocol = {
        "recommender": {**card, "name": name},
        "interval": INTERVAL,
        "exclude_seen": exclude_seen,
        "num_users": 300,
    }
    slices = {"repeated_target": {"num_users": unreachable}, "new_target": {"num_users": 300 - unreachable}}
    recalls = values if recall is None else recall + NOISE
    return Evaluation(protocol, {}, slices, np.arange(300), {"ndcg@10": values, "recall@10": recalls}, kind)


BASELINES = [evaluation("popularity", 0.1), evaluation("markov", 0.2), evaluation("ease_r", 0.3)]


def test_the_model_meets_every_baseline_and_the_hybrid_everybody():
    models = [evaluation("llm", 0.2, kind="model"), evaluation("llm_soft", 0.2, kind="model")]
    pairs = [(c[0].first, c[0].second) for c in contests([*BASELINES, *models, evaluation("both", 0.4, kind="hybrid")])]
    baselines = ["popularity", "markov", "ease_r"]
    assert pairs == [
        *(("llm", name) for name in baselines),
        *(("llm_soft", name) for name in baselines),
        ("llm", "llm_soft"),
        *(("both", name) for name in (*baselines, "llm", "llm_soft")),
    ]


def test_a_sentence_gives_every_difference_its_interval_and_no_opinion():
    found = verdicts([*BASELINES, evaluation("llm", 0.35, kind="model"), evaluation("hybrid", 0.05, kind="hybrid")])
    assert found[0] == (
        "llm is above popularity by .2500 in NDCG@10 (95 % interval +.2500 to +.2500, adjusted p below .0001); "
        "above by .2500 in Recall@10 (95 % interval +.2500 to +.2500, adjusted p below .0001)."
    )
    assert found[-2].startswith("hybrid is below llm by .3000 in NDCG@10 (95 % interval −.3000 to −.3000, adjusted p")
    assert found[-1] == "Corrected for 7 comparisons by Holm's method, metric by metric."
    assert len(found) == 3 + 4 + 1 and not any(NO_OPINION.search(sentence) for sentence in found)


def test_an_interval_that_holds_0_is_no_significant_difference_of_that_metric_alone():
    found = verdicts([BASELINES[2], evaluation("llm", 0.3, noise=0.3, recall=0.4, kind="model")])
    ndcg, recall = found[0].split("; ")
    assert ndcg.startswith("llm and EASE-R: no significant difference in NDCG@10, ") and "p" not in ndcg.split("(")[1]
    assert recall.startswith("above by .1000 in Recall@10 (95 % interval +.")
    assert "no significant difference" not in recall and not NO_OPINION.search(found[0])


def test_targets_that_cannot_be_hit_are_counted_and_no_comparison_is_made_where_they_are_most():
    some, most = (
        [
            evaluation(name, 0.2, kind=kind, unreachable=number)
            for name, kind in (("llm", "model"), ("markov", "baseline"))
        ]
        for number in (100, 200)
    )
    (note,) = notes(some[0])
    assert note.startswith("100 of 300 test instances (33 %) have a target that lies in the user's own history")
    assert "--include-seen" in note and len(verdicts(some)) == 1
    (note,) = notes(most[0])
    assert "200 of 300 test instances (67 %)" in note and "no comparison is made" in note and "--include-seen" in note
    assert verdicts(most) == []


def test_repeats_that_can_be_hit_need_no_note():
    kept = evaluation("llm", 0.2, kind="model", unreachable=200, exclude_seen=False)
    assert notes(kept) == [] and len(verdicts([kept, evaluation("markov", 0.1, exclude_seen=False)])) == 1


def test_recommenders_are_called_what_people_call_them():
    model = {
        "name": "llm",
        "backbone": {"name": "HuggingFaceTB/SmolLM2-135M-Instruct"},
        "adaptation": "LoRA",
        "form": "unique_id",
    }
    found = verdicts([BASELINES[1], evaluation(mean=0.2, kind="model", **model)])
    assert found[0].startswith(
        "SmolLM2-135M + LoRA and first-order Markov chain: no significant difference in NDCG@10, +.0000"
    )
    (difference,) = contests([BASELINES[2], evaluation(mean=0.2, kind="model", **model)], ["ndcg@10"])[0]
    shown = difference.to_json()
    assert (shown["first"], shown["second"]) == ("llm", "ease_r") and "in_words" not in shown
    assert name_in_words(model | {"form": "soft"}) == "SmolLM2-135M + LoRA, soft tokens"
    assert name_in_words(model | {"adaptation": "full fine-tuning"}) == "SmolLM2-135M (full fine-tuning)"
    assert name_in_words({"name": "hybrid", "model": model, "ease_r": {}}) == "hybrid (SmolLM2-135M + LoRA and EASE-R)"
    assert name_in_words({"name": "dcn_v2"}) == "DCNv2"
    stack = {"name": "stacked", "parts": {"run": model, "ease_r": {"name": "ease_r"}}}
    assert name_in_words(stack) == "stack (SmolLM2-135M + LoRA, EASE-R)"


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
