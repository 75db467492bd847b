"""Every bench at a size of seconds: its outputs are equal and its result has the shape that others read. Never a time."""

import importlib
import json
import subprocess
import sys

import harness
import pytest
from plan import QUICK

# What makes a bench small enough for CI; the others are small under --quick.
TINY = {
    "trie": ["--items", "3000", "--rounds", "1"],
    "evaluation": ["--users", "300", "--items", "500", "--rounds", "1"],
    "data": ["--events", "20000", "--users", "1000", "--items", "500"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [run.bench for run in QUICK])
def test_outputs_are_equal_and_the_result_has_its_shape(name):
    bench = importlib.import_module(name)
    options = harness.parse(bench.flags(), ["--quick", *TINY.get(name, [])])
    result = json.loads(json.dumps(harness.complete(name, options, bench.run(options)), allow_nan=False))
    assert result["identical"] is True
    assert (result["bench"], result["settings"]["quick"], result["machine"]["threads"]) == (name, True, 1)
    for clocks in result["seconds"].values():
        for seconds in (clocks["process"], clocks["wall"]):
            assert 0 <= seconds["min"] <= seconds["median"] <= seconds["max"]
    assert all(ratio > 0 for ratio in result.get("ratio", {}).values())
    assert all(isinstance(how, str) for how in result.get("absent", {}).values())


@pytest.mark.slow
def test_a_bench_starts_as_the_documentation_spells_it():
    sizes = ["--items", "2000", "--levels", "4", "--codebook", "256", "--beams", "20"]
    words = [*sizes, "--threads", "1", "--rounds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "benchmarks/trie.py", *words], cwd=harness.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["identical"] is True and {"dict", "hash"} <= set(result["ratio"])
    assert result["bytes"] < 40_000 and len(result["step_milliseconds"]) == 4
    assert "static" in result["absent"]  # its clone was not named
