"""Every bench at a size of seconds: its outputs are equal and its result has the shape that others read. Never a time."""

import importlib
import json
import shlex
import subprocess
import sys

import decode
import harness
import numpy as np
import pytest
import run_all
import torch
from plan import GPU
from run_all import chosen

# What makes a bench small enough for CI, besides --quick. Two are started as a person would, below.
TINY = {
    "decode": ["--items", "2000", "--prompt", "32", "--rounds", "1"],
    "evaluation": ["--users", "300", "--items", "500", "--rounds", "1"],
    "data": ["--events", "20000", "--users", "1000", "--items", "500"],
    "semantic_ids": ["--items", "600", "--codebook", "16", "--dim", "80"],
    "memory": ["--items", "2000"],
    "ease_r": ["--users", "300", "--items", "400"],
    "training": ["--vocab", "600", "--layers", "1", "--rounds", "1", "--targets", "3"],
    "growth": ["--rounds", "1"],
    "http_load": ["--clients", "1", "4"],
}
# What others read in the object that a bench prints: peers that are always there, and the names of its lower bounds.
PEERS = {
    "decode": {"hf", "hf_prefill_once"},
    "trie": {"dict", "hash"},
    "training": {"padded_all_logits", "padded"},
    "evaluation": {"recbole_style", "argsort_loop"},
    "semantic_ids": {"faiss_full", "torch_lloyd"},
    "ease_r": {"dense_float64"},
}
LOWER_BOUNDS = {
    "decode": {"rows", "products"},
    "trie": {"copy_codes_seconds"},
    "training": {"products_s", "over_lower_bound"},
    "evaluation": {"gemm_seconds", "gemm_seconds_at_peak"},
    "semantic_ids": {"products_s", "over_lower_bound"},
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
    assert PEERS.get(name, set()) <= set(result.get("ratio", ()))
    assert set(result.get("lower_bound", ())) == LOWER_BOUNDS.get(name, set())
    assert all(value > 0 for value in result.get("lower_bound", {}).values())
    if name == "decode":
        assert result["softmax_scope"] == result["settings"]["softmax_scope"] and result["over_prefill"] > 0
        assert set(result["requests_per_s"]) == {"ours", *result["ratio"]} and result["clock"] in ("process", "wall")
        for peer, ratio in result["ratio"].items():
            rates = result["requests_per_s"]
            assert rates["ours"] / rates[peer] == pytest.approx(ratio, rel=1e-2)


def run_tiny(bench, words):
    """What --json would print, run in this process."""
    options = harness.parse(bench.flags(), words)
    return json.loads(json.dumps(harness.complete(bench.__name__, options, bench.run(options)), allow_nan=False))


def start(name, words):
    """The one object that a bench prints, started as a person would."""
    command = [sys.executable, f"benchmarks/{name}.py", *words, "--threads", "1", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_outputs_are_equal_and_the_result_has_its_shape(name):
    result = run_tiny(importlib.import_module(name), ["--quick", *TINY[name]])
    assert result["settings"]["quick"] is True
    check_shape(result, name)


@pytest.mark.slow
def test_a_bench_starts_as_the_documentation_spells_it():
    result = start("trie", ["--items", "2000", "--levels", "4", "--codebook", "256", "--beams", "20"])
    check_shape(result, "trie")
    assert result["bytes"] < 40_000 and len(result["step_milliseconds"]) == 4
    assert "static" in result["absent"]  # its clone was not named


@pytest.mark.slow
def test_the_bench_of_decoding_starts_as_the_documentation_spells_it():
    sizes = ["--shape", "4x384", "--prompt", "32", "--beams", "20", "--batch", "2", "--items", "2000"]
    result = start("decode", sizes)
    check_shape(result, "decode")
    assert result["softmax_scope"] == "vocabulary" and set(result["ratio"]) == {"hf", "hf_prefill_once"}
    assert result["common_items"] == {"hf": 1, "hf_prefill_once": 1}
    assert result["other_ranks"] == {"hf": 0, "hf_prefill_once": 0}


@pytest.mark.parametrize("run", GPU, ids=lambda run: run.name)
def test_a_run_for_a_gpu_has_flags_that_its_bench_knows(run):
    options = harness.parse(importlib.import_module(run.bench).flags(), shlex.split(run.flags))
    assert options.device == "cuda" and not options.quick


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["decode-gpu-vocabulary-bf16-beams50-batch4", "decode-gpu-trie-fp32-beams20-batch16", "gpu-training"]
)
def test_what_runs_on_a_gpu_runs_on_a_cpu_at_small_sizes(name):
    (run,) = chosen(GPU, [name])
    small = {
        "decode": ["--shape", "4x384", "--items", "500", "--prompt", "16", "--batch", "2", "--beams", "8"],
        "training": ["--shape", "2x256", "--vocab", "600", "--layers", "1", "--targets", "3"],
    }
    words = [*shlex.split(run.flags), "--device", "cpu", "--rounds", "1", *small[run.bench]]
    result = run_tiny(importlib.import_module(run.bench), words)
    check_shape(result, run.bench)
    assert result["clock"] == "process" and "gpu" not in result["machine"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_what_asks_for_one_ends_with_a_sentence(monkeypatch, capsys):
    for main, words in ((run_all.main, ["run_all.py", "--gpu"]), (decode.main, ["decode.py", "--device", "cuda"])):
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(harness, "with_threads", lambda threads: None)  # it starts the program anew
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert (end.value.code, shown.out) == (2, "")
        assert (
            shown.err.startswith(f"{words[0][:-3]}: expected a GPU for 'cuda', but torch")
            and shown.err.count("\n") == 1
        )


def test_lists_are_the_same_where_only_ties_changed_ranks():
    first = np.array([4, 7, 9]), np.array([-1.0, -2.0, -3.0])
    assert decode.is_tied(*first, *first)
    swapped = np.array([4, 9, 7]), np.array([-1.0, -2.0, -3.0])
    assert not decode.is_tied(*first, *swapped)
    close = np.array([4, 7, 9]), np.array([-1.0, -2.0, -2.00005])
    assert decode.is_tied(*close, np.array([4, 9, 7]), np.array([-1.0, -2.0, -2.00005]))
    assert decode.is_tied(*close, np.array([4, 7, 8]), np.array([-1.0, -2.0, -2.00004])), "which of two ends the list"
    assert not decode.is_tied(*close, np.array([3, 7, 9]), np.array([-1.0, -2.0, -2.00005]))
