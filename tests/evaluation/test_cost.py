"""What an answer costs is measured, kept beside accuracy, and never part of a protocol."""

import json
import math

import numpy as np
import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.popularity import Popularity
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import DataError
from llmrec.evaluation.cost import Cost, mean_cost, measure_cost, training_cost
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import Requests

EVENTS = Interactions(np.arange(0, 41, 4), np.tile([0, 1, 2, 3, 4], 8), 5)
ASKED = Requests(Histories.from_lists([[0], [1, 2], [3], [4, 0], [2]]))
MEASURED = ("latency_ms_single_median", "latency_ms_single_p90", "latency_ms_batched", "cpu_seconds_per_1000_requests")


class Counting:
    """A click scorer that remembers what it was asked."""

    name, card = "counting", {}

    def __init__(self):
        self.asked = []

    def score_rows(self, rows):
        self.asked.append(rows.items.tolist())
        return np.full(len(rows), 0.5)


def click_rows(number):
    zeros = np.zeros(number, np.int32)
    histories = np.tile(np.array([PADDING, 3, 1], np.int32), (number, 1))
    return ClickExamples(zeros, np.arange(number, dtype=np.int32), zeros > 0, histories, zeros, zeros, None)


def test_a_cost_survives_json_without_what_is_not_known():
    cost = Cost(latency_ms_single_median=1.5, trained_parameters=0, device="cpu")
    assert cost.to_json() == {"latency_ms_single_median": 1.5, "trained_parameters": 0, "device": "cpu"}
    assert Cost.from_json(cost.to_json()) == cost


def test_a_field_that_there_is_not_is_named():
    with pytest.raises(DataError, match="no joules"):
        Cost.from_json({"joules": 1.0})


def test_the_cost_over_seeds_is_the_mean_of_what_all_know():
    first = Cost(latency_ms_single_median=2.0, peak_memory_mib=100.0, trained_parameters=7, device="cpu")
    second = Cost(latency_ms_single_median=3.0, trained_parameters=7, device="cuda")
    assert mean_cost([first, second]) == Cost(latency_ms_single_median=2.5, trained_parameters=7)
    assert mean_cost([first, None]) is None


def test_a_counter_has_times_and_memory_and_neither_prompts_nor_parameters():
    found = measure_cost(Popularity().fitted(EVENTS), ASKED, single=4, batch=2)
    assert all(math.isfinite(getattr(found, name)) and getattr(found, name) > 0 for name in MEASURED)
    assert found.latency_ms_single_median <= found.latency_ms_single_p90
    assert (found.num_single, found.batch_size, found.device) == (4, 2, "cpu")
    assert found.tokens_per_prompt is found.trained_parameters is found.peak_gpu_memory_mib is None
    assert found.peak_memory_mib > 10 and found.training_cpu_minutes > 0


def test_what_is_timed_is_asked_once_and_after_a_first_request():
    scorer = Counting()
    found = measure_cost(scorer, click_rows(20), single=5, batch=8)
    assert scorer.asked[:6] == [[0], [1], [2], [3], [4], [5]]
    assert scorer.asked[6] == list(range(6, 14)) and len(scorer.asked) == 7, "8 more would ask some of them again"
    assert (found.num_single, found.batch_size) == (5, 8)


def test_the_time_ends_the_single_requests_and_makes_the_batch_small():
    scorer = Counting()
    found = measure_cost(scorer, click_rows(20), single=10, batch=8, seconds=1e-9)
    assert (found.num_single, found.batch_size) == (3, 1), "three whatever the time, for a median"


def test_candidates_are_scored_and_not_ranked():
    popular = Popularity().fitted(EVENTS)
    popular.rank = None  # not to be called
    assert measure_cost(popular, ASKED, candidates=np.tile([0, 3], (5, 1)), single=3, batch=2).num_single == 3


def test_a_hybrid_has_taken_the_training_of_both_its_parts():
    ease_r = EaseR().fitted(EVENTS)
    hybrid = Hybrid(Popularity().fit(EVENTS), ease_r)
    found = measure_cost(hybrid, ASKED, single=3, batch=2, known=Cost(training_cpu_minutes=2.0))
    assert found.training_cpu_minutes == 2.0 + ease_r.fit_cpu_minutes
    assert measure_cost(hybrid, ASKED, single=3, batch=2).training_cpu_minutes is None, "one of them is not known"


def test_a_language_model_says_its_tokens_and_its_run_what_was_trained(tiny_run):
    from llmrec.recommender import Recommender

    ranker = Recommender.from_pretrained(tiny_run / "model").ranker
    asked = Requests(Histories.from_lists([[0], [0, 1, 2, 3]] * 3))
    estimate = json.loads((tiny_run / "estimate.json").read_text())
    known = training_cost(tiny_run)
    found = measure_cost(ranker, asked, single=3, batch=2, known=known)
    lengths = [len(prompt) for prompt in ranker.model.prompts(asked)]
    assert found.tokens_per_prompt == np.mean(lengths[:4])
    assert found.trained_parameters == estimate["estimate"]["trained_parameters"]
    assert found.training_cpu_minutes == estimate["measured"]["cpu_seconds"] / 60 > 0
    assert ranker.model.prompt_cache is None or len(ranker.model.prompt_cache) <= 6


def test_a_folder_that_says_nothing_of_its_training_has_no_cost(tmp_path):
    assert training_cost(tmp_path) == Cost()
