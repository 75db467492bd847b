"""What an answer costs is measured, kept beside accuracy, and never part of a protocol."""

import pytest

from llmrec.errors import DataError
from llmrec.evaluation.cost import Cost, mean_cost


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
