"""docs/speed.md is written from results: every number from the JSON, every peer named, the same twice."""

import json
import re

import page
import plots
import pytest
from harness import folder_name
from plan import FULL, GPU, QUICK, Goal
from run_all import chosen, judged, print_summary

MACHINE = {"cpu": "A", "instructions": "AVX2", "cores": 2, "memory_gib": 8, "threads": 1, "python": "3", "numpy": "2", "torch": "2",
           "transformers": "5", "commit": "abc", "date": "2026-01-02"}  # fmt: skip
TIMES = {"median": 2.5, "min": 2.0, "max": 3.0}
RESULTS = {
    "sums": {
        "bench": "sums",
        "seconds": {"peer": {"process": TIMES, "wall": TIMES}},
        "ratio": {"peer": 31.25},
        "over_prefill": 2.0,
        "clock": "process",
        "requests_per_s": {"ours": 40.0, "peer": 1.28},
        "lower_bound": {"rows": 1.5, "products": 1.75},
        "absent": {"other": "pip install other"},
        "goals": [{"what": "speed", "goal": "at least 30 x", "measured": 31.25, "unit": "x", "reached": True}],
        "machine": MACHINE,
    },
    "growth": {
        "bench": "growth",
        "points": {"beams": {"5": 0.1, "20": 0.2}, "rules": {"no rule": 0.1}},
        "machine": MACHINE,
    },
}
ON_GPU = {
    "sums": {
        "bench": "sums",
        "ratio": {"peer": 3.0},
        "goals": [{"what": "speed", "goal": "at least 30 x", "measured": 3.0, "unit": "x", "reached": False}],
        "machine": MACHINE | {"gpu": "B"},
    }
}


def test_the_section_has_every_goal_ratio_lower_bound_machine_and_absent_peer():
    text = page.section([RESULTS, ON_GPU], [[], []])
    assert "Reached: 1 of 1 goals on A (AVX2), 0 of 1 goals on B." in text
    assert "| what | goal | result | A (AVX2) | B |" in text
    assert "| speed | at least 30 x | `sums` | 31.25 x | **3 x** |" in text
    assert "| `sums` | peer | 31.2 | 2.5 (2 .. 3) |" in text
    assert "| `sums` | 2 | 1.75 | 1.5 |" in text
    assert "`sums`: other was not installed. To have it: `pip install other`" in text
    assert (
        "### A (AVX2)\n" in text
        and "- A, AVX2, 2 cores, 8 GiB" in text
        and "2026-01-02, commit abc: `sums`, `growth`." in text
    )
    assert "### B\n" in text and "- B, A, AVX2, 2 cores" in text


def test_requests_per_second_stand_in_a_table_with_their_clock_where_there_are_any():
    assert "Requests per second" not in page.section([ON_GPU], [[]])
    other = {"requests_per_s": {"ours": 50.0, "another": 2.0}, "clock": "process", "machine": MACHINE}
    text = page.section([{**RESULTS, "other": other}], [[]])
    assert "the median time it takes, by the process clock:\n\n| result | ours | peer | another |" in text
    assert "| `sums` | 40 | 1.28 |  |\n| `other` | 50 |  | 2 |" in text


def test_ratios_show_seconds_of_the_clock_they_are_of():
    seconds = {"peer": {"process": TIMES, "wall": {"median": 7.0, "min": 6.0, "max": 8.0}}}
    text = page.section([{"sums": {**RESULTS["sums"], "clock": "wall", "seconds": seconds}}], [[]])
    assert "| `sums` | peer | 31.2 | 7 (6 .. 8) |" in text


def test_a_lower_bound_that_older_code_did_not_measure_is_an_empty_cell_and_a_sentence():
    sentence = "Where a lower bound is empty, the result is of code that did not measure it."
    assert sentence not in page.section([RESULTS], [[]])
    older = {"sums": {**RESULTS["sums"], "lower_bound": {"over_prefill": 1.5, "rows_read": 190}}}
    text = page.section([older], [[]])
    assert sentence in text and "| `sums` | 2 |  |  |" in text


def test_a_machine_on_which_nothing_has_a_goal_is_not_counted():
    without = {"sums": {key: value for key, value in ON_GPU["sums"].items() if key != "goals"}}
    text = page.section([RESULTS, without], [[], []])
    assert "Reached: 1 of 1 goals on A (AVX2). What" in text and "### B\n" in text


def test_a_machines_folder_is_named_after_what_does_the_work():
    assert folder_name({"cpu": "Intel(R) Xeon(R) Processor", "instructions": "AVX512"}) == "intel-xeon-processor-avx512"
    assert folder_name({"cpu": "AMD EPYC", "gpu": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"


def test_only_what_stands_between_the_markers_changes():
    before = f"# Speed\n\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    once = page.with_results(before, "new")
    assert once == f"# Speed\n\n{page.BEGIN}\nnew\n{page.END}\nafter\n"
    assert page.with_results(once, "new") == once
    assert page.with_results(page.PAGE.read_text(), "new").count("new") >= 1  # the page has its markers


def test_the_same_results_draw_the_same_images(tmp_path):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written.append([(path.name, path.read_bytes(), alt) for path, alt in plots.write(RESULTS, tmp_path / name)])
    assert written[0] == written[1]
    assert [name for name, _, _ in written[0]] == ["ratios-sums.svg", "growth.svg"]
    assert written[0][0][2] == "sums: times longer than llmrec: peer 31.2"


def test_a_goal_of_the_plan_reads_its_number_from_the_result():
    row = judged(Goal("speed", "ratio.peer", 40), RESULTS["sums"])
    assert (row["goal"], row["measured"], row["reached"]) == ("at least 40 x", 31.25, False)


@pytest.mark.parametrize("plan", [QUICK, FULL, GPU], ids=["quick", "full", "gpu"])
def test_the_plan_names_benches_that_are_there_and_each_result_once(plan):
    assert len({run.name for run in plan}) == len(plan)
    for run in plan:
        assert (page.ROOT / "benchmarks" / f"{run.bench}.py").is_file(), run


def test_runs_are_chosen_by_name_or_by_its_beginning():
    assert [run.name for run in chosen(FULL, ["trie", "data"])] == ["trie", "data"]
    assert {run.bench for run in chosen(GPU, ["decode-gpu-vocabulary-*"])} == {"decode"}
    assert chosen(GPU, ["*"]) == list(GPU) and chosen(GPU, ["nothing"]) == []


def test_committed_results_are_of_equal_outputs_and_name_no_path():
    for path in page.RESULTS.glob("**/*.json"):
        result = json.loads(path.read_text())
        assert result.get("identical") is True or "ratio" not in result, path
        assert not re.search(r'["\s]/\w', path.read_text()), path


def test_the_summary_names_what_failed_what_has_no_peer_and_what_is_absent(capsys):
    print_summary({**RESULTS, "broken": None}, dict.fromkeys([*RESULTS, "broken"], 1.0))
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "no peer" in shown
    assert "sums: other is not here. To have it: pip install other" in shown
