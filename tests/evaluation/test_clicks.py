"""Click evaluations: every figure of a task, slices, seeds, paired differences, and what is refused."""

import json

import numpy as np
import pytest

from llmrec import metrics
from llmrec.data.click_examples import ClickExamples
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.clicks import evaluate_clicks
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.significance import NO_VERDICT, paired_differences, renamed
from llmrec.evaluation.tasks import load_any_task
from llmrec.evaluation.verdicts import contests, notes, verdicts

NAMES = ["auc", "gauc", "logloss", "brier", "ece", "ece_equal_mass", "accuracy", "f1",
         "ndcg@1", "ndcg@5", "mrr", "map", "recall@1", "recall@5"]  # fmt: skip
TASK = load_any_task("clicks", [f"metrics=[{', '.join(NAMES)}]", "interval.resamples=200"])


def examples(num_users=60, seed=0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users, dtype=np.int32), rng.integers(1, 9, num_users))
    num = len(users)
    nothing = np.zeros(num, np.int32)
    return ClickExamples(
        users,
        rng.integers(0, 30, num).astype(np.int32),
        rng.random(num) < 0.5,
        nothing[:, None],
        nothing,
        nothing,
        None,
    )


ASKED = examples()


def protocol_of(asked, **more):
    of_users = metrics.user_auc(asked.labels, np.zeros(len(asked)), asked.users)
    return {
        "task": {"name": "clicks", "kind": "clicks"}, "interval": {"kind": "bootstrap", **TASK.interval.model_dump()},
        "num_users": len(np.unique(asked.users)), "gauc_users": len(of_users.users),
        "gauc_users_left_out": of_users.num_left_out, **more,
    }  # fmt: skip


def scored(name="dnn", noise=1.0, seed=1, asked=ASKED, task=TASK, kind="model", **more):
    scores = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(asked.labels - 0.5, noise)))
    return evaluate_clicks(
        name, {}, scores, asked, protocol_of(asked, **more), task, kind=kind, masks={"even": asked.items % 2 == 0}
    )


def test_every_figure_is_that_of_its_function_and_lies_in_its_interval():
    found = scored()
    labels, scores, users = ASKED.labels, found.rows.scores, ASKED.users
    rows = metrics.ranked_rows(labels, scores, users)
    expected = {
        **metrics.ctr_metrics(labels, scores, users), "brier": metrics.brier(labels, scores), "ece": metrics.ece(labels, scores),
        "ece_equal_mass": metrics.ece(labels, scores, equal_mass=True), "accuracy": metrics.binary_accuracy(labels, scores),
        "f1": metrics.binary_f1(labels, scores), "ndcg@1": metrics.user_ndcg(rows, 1).mean(),
        "ndcg@5": metrics.user_ndcg(rows, 5).mean(),
        "mrr": metrics.user_mrr(rows).mean(), "map": metrics.user_average_precision(rows).mean(),
        "recall@1": metrics.user_recall(rows, 1).mean(), "recall@5": metrics.user_recall(rows, 5).mean(),
    }  # fmt: skip
    assert list(found.metrics) == NAMES
    assert {name: figure["value"] for name, figure in found.metrics.items()} == pytest.approx(expected)
    for name, figure in found.metrics.items():
        if name.startswith("ece"):  # biased upwards when redrawn
            assert figure["low"] is None and name not in found.resamples
        else:
            assert figure["low"] < figure["value"] < figure["high"], name
    json.dumps(found.to_json(), allow_nan=False)


def test_a_slice_is_its_rows_alone():
    found = scored()
    even = ASKED.items % 2 == 0
    assert found.slices["even"]["num_rows"] == even.sum()
    assert found.slices["even"]["num_users"] == len(np.unique(ASKED.users[even]))
    auc = metrics.auc(ASKED.labels[even], found.rows.scores[even])
    assert found.slices["even"]["metrics"]["auc"]["value"] == auc


def test_users_of_one_class_are_counted_and_said_and_without_others_there_is_no_gauc():
    found = scored()
    (note,) = notes(found)
    left_out = metrics.user_auc(ASKED.labels, found.rows.scores, ASKED.users).num_left_out
    assert left_out > 0 and note.startswith(f"{left_out} of 60 users have examples of one answer only")
    alone = examples()
    alone = ClickExamples(
        alone.users, alone.items, alone.users % 2 == 0, alone.histories, alone.answered, alone.liked, None
    )
    nobody = scored(asked=alone)
    assert nobody.metrics["gauc"] == {"value": None, "low": None, "high": None} == nobody.metrics["mrr"]
    assert nobody.metrics["auc"]["value"] > 0.5 and "gauc" not in nobody.compared_by
    assert notes(nobody)[0].startswith("None of the 60 users has examples of both answers")
    assert " in AUC" in verdicts([nobody, scored("mean", asked=alone, kind="baseline")])[0]


def test_examples_without_any_negative_have_no_auc_and_the_rest_of_the_figures():
    asked = examples()
    asked = ClickExamples(
        asked.users, asked.items, np.ones(len(asked), bool), asked.histories, asked.answered, asked.liked, None
    )
    found = scored(asked=asked)
    assert found.metrics["auc"]["value"] is None and found.metrics["logloss"]["value"] > 0
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (np.full(len(ASKED), np.nan), r"'dnn' gave NaN as a score \(first of example 0"),
        (np.full(len(ASKED), 1.5), "from 1.5 to 1.5, which are no probabilities"),
        (np.zeros(3), r"scores of shape \(3,\) for"),
    ],
)
def test_scores_that_are_none_are_refused(scores, sentence):
    with pytest.raises(ModelError, match=sentence):
        evaluate_clicks("dnn", {}, scores, ASKED, protocol_of(ASKED), TASK)


def test_seeds_are_the_mean_of_their_figures_not_the_figures_of_a_mean():
    seeds = [scored(seed=seed) for seed in (1, 2, 3)]
    found = over_seeds(seeds, [1, 2, 3])
    for name in ("auc", "logloss", "ece"):
        values = [each.metrics[name]["value"] for each in seeds]
        assert found.metrics[name]["value"] == pytest.approx(np.mean(values)) and found.metrics[name]["seeds"] == values
        assert found.metrics[name]["std"] == pytest.approx(np.std(values, ddof=1))
        of_slice = [each.slices["even"]["metrics"][name]["value"] for each in seeds]
        assert found.slices["even"]["metrics"][name]["value"] == pytest.approx(np.mean(of_slice))
    assert np.allclose(found.resamples["gauc"], np.mean([each.resamples["gauc"] for each in seeds], axis=0))
    assert found.metrics["auc"]["low"] < found.metrics["auc"]["value"] < found.metrics["auc"]["high"]
    assert found.protocol["recommender"]["seeds"] == [1, 2, 3] and found.rows is None
    (difference,) = paired_differences(found, scored("mean", noise=30.0, seed=9), ["auc"])
    assert len(difference.of_seeds) == 3
    assert difference.value == pytest.approx(np.mean([each.value for each in difference.of_seeds]))


def test_the_interval_of_a_difference_is_of_the_same_redrawn_users():
    first, second = scored(), scored("other", noise=2.0, seed=5)
    auc, f1, mrr = paired_differences(first, second, ["auc", "f1", "mrr"])
    draws = first.resamples["auc"] - second.resamples["auc"]
    assert (auc.low, auc.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert auc.num_users == 60 and mrr.num_users == first.protocol["gauc_users"] < 60
    assert f1.value == pytest.approx(first.metrics["f1"]["value"] - second.metrics["f1"]["value"])
    (same,) = paired_differences(first, renamed(first, "again"), ["auc"])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_other_rows_and_rankings_are_not_compared():
    with pytest.raises(ConfigError, match=r"DNN and other cannot be compared: they differ in rows \(a and b\)"):
        paired_differences(scored(rows="a"), scored("other", rows="b"), ["auc"])
    with pytest.raises(ConfigError, match=r"no paired difference of ece \(there are: auc"):
        paired_differences(scored(), scored("other"), ["ece"])


def test_the_model_meets_the_means_after_holm():
    means = [
        scored(name, noise=30.0, seed=seed, kind="baseline") for name, seed in (("item_mean", 5), ("user_item_mean", 6))
    ]
    found = contests([scored(noise=0.5), *means])
    assert [[(each.second, each.metric) for each in pair] for pair in found] == [
        [("item_mean", "auc"), ("item_mean", "gauc")], [("user_item_mean", "auc"), ("user_item_mean", "gauc")]
    ]  # fmt: skip
    assert all(each.num_tests == 2 and each.verdict == "above" for pair in found for each in pair)
    few = examples(num_users=20)
    said = verdicts([scored(noise=0.2, asked=few), scored("item_mean", noise=30.0, seed=4, asked=few, kind="baseline")])
    assert said[0].startswith(f"DNN and item mean: {NO_VERDICT} in AUC, +.") and "there is no verdict" in said[1]
