"""Every bench at a size of seconds: its outputs are equal and its result has the shape that others read. Never a time."""

import importlib
import json
import subprocess
import sys

import harness
import pytest

# What makes a bench small enough for CI, beside --quick. The trie's is started as a person would, below.
TINY = {
    "decode": ["--items", "2000", "--prompt", "32", "--rounds", "1"],
    "evaluation": ["--users", "300", "--items", "500", "--rounds", "1"],
    "data": ["--events", "20000", "--users", "1000", "--items", "500"],
    "semantic_ids": ["--items", "600", "--codebook", "16", "--dim", "80"],
    "memory": ["--items", "2000"],
    "training": ["--vocab", "600", "--layers", "1", "--rounds", "1", "--targets", "3"],
    "growth": ["--rounds", "1"],
}


def check_shape(result, name):
    """What run_all.py, docs/speed.md and its readers rely on."""
    # Semantic ids of equal error need scikit-learn, which is no requirement: without it the result says so.
    assert result.get("identical") is True or "sklearn_kmeans" in result.get("absent", ()) or "ratio" not in result
    assert (result["bench"], result["machine"]["threads"]) == (name, 1)
    for clocks in result.get("seconds", {}).values():
        for seconds in (clocks["process"], clocks["wall"]):
            assert 0 <= seconds["min"] <= seconds["median"] <= seconds["max"]
    assert all(ratio > 0 for ratio in result.get("ratio", {}).values())
    assert all(isinstance(how, str) for how in result.get("absent", {}).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_outputs_are_equal_and_the_result_has_its_shape(name):
    bench = importlib.import_module(name)
    options = harness.parse(bench.flags(), ["--quick", *TINY[name]])
    result = json.loads(json.dumps(harness.complete(name, options, bench.run(options)), allow_nan=False))
    assert result["settings"]["quick"] is True
    check_shape(result, name)


@pytest.mark.slow
def test_a_bench_starts_as_the_documentation_spells_it():
    sizes = ["--items", "2000", "--levels", "4", "--codebook", "256", "--beams", "20"]
    words = [*sizes, "--threads", "1", "--rounds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "benchmarks/trie.py", *words], cwd=harness.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    check_shape(result, "trie")
    assert {"dict", "hash"} <= set(result["ratio"])
    assert result["bytes"] < 40_000 and len(result["step_milliseconds"]) == 4
    assert "static" in result["absent"]  # its clone was not named
