"""The baselines, through the product's own path from files to numbers, against values of an independent program.

The reference program is benchmarks' own: NumPy only, one user at a time, no code of the product.
"""

import json

import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.markov import Markov
from llmrec.baselines.popularity import Popularity
from llmrec.data.prepare import prepare
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task

TOLERANCE = 0.0005


def _fitted(events):
    """All four reference models; one inverse serves both recencies."""
    ease_r = EaseR().fit(events)
    return {
        "popularity": Popularity().fit(events),
        "markov": Markov().fit(events),
        "ease_r recency=1": ease_r.with_recency(1.0),
        "ease_r recency=0.6": ease_r,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ml100k_posters", "amazon14_beauty"])
@pytest.mark.parametrize("fit", ["train", "train+valid"])
def test_baselines_equal_the_reference(bench_data, tmp_path, name, fit):
    reference = json.loads((bench_data / "reference_baselines.json").read_text())[name]
    source = bench_data / name
    data = prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", tmp_path / "data")
    tasks = [
        # Intervals and lists are tested elsewhere; leaving them out halves the time.
        load_task(
            "leave_one_out", [f"fit={fit}", f"exclude_seen={seen}", "metrics=[recall, ndcg]", "interval.resamples=10"]
        )
        for seen in (True, False)
    ]
    split = tasks[0].make(data)
    assert (data.catalog.num_items, len(split.test)) == (reference["num_items"], reference["num_users"])
    for model, recommender in _fitted(split.fitted(fit)).items():
        for task in tasks:
            expected = reference[f"{model} | fit={fit} | exclude_seen={task.exclude_seen}"]
            metrics = evaluate(recommender, data, task, split=split, batch=512).metrics
            got = {metric: metrics[metric]["value"] for metric in expected}
            assert got == pytest.approx(expected, abs=TOLERANCE), (model, task.exclude_seen)
