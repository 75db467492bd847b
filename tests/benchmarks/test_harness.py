"""The harness: what is timed when, what a ratio is, what ends a bench, what a result may not hold."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import harness
import pytest

BENCH = """
import harness

def run(options):
    harness.require_identical(options.rounds != 7, "the sum is 3 and 4")
    timings = harness.measure({"ours": lambda: sum(range(1000)), "peer": lambda: sum(range(2000))}, options.rounds)
    return {
        "identical": True,
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "ratio": harness.ratios(timings),
        "goals": [harness.goal("sum", 0.123456, 1, "s")],
    }

harness.main(harness.parser(None, quick={"rounds": 2}), run)
"""


@pytest.fixture
def bench(tmp_path):
    """Starts a bench of four lines as a person would; returns the finished process."""
    (tmp_path / "sums.py").write_text(f"import sys\nsys.path.append({str(Path(harness.__file__).parent)!r})\n{BENCH}")

    def start(*words):
        return subprocess.run([sys.executable, tmp_path / "sums.py", *words], capture_output=True, text=True)

    return start


def test_peers_take_turns_and_the_warm_up_is_not_counted():
    called = []
    timings = harness.measure({name: lambda n=name: called.append(n) for name in "abc"}, rounds=2, calls=2)
    assert "".join(called) == "aabbcc" * 3
    assert [len(timings[name].process) for name in "abc"] == [2, 2, 2]


def test_a_ratio_is_the_peers_median_over_ours():
    timings = {"ours": harness.Timing(), "peer": harness.Timing()}
    timings["ours"].process, timings["peer"].process = [1.0, 2.0, 90.0], [6.0, 3.0, 80.0]
    assert harness.ratios(timings) == {"peer": 3.0}
    assert timings["ours"].scaled(10).median == 20


def test_goals_are_judged_from_both_sides():
    assert [harness.goal("", 2, 2, "s")["reached"], harness.goal("", 2.1, 2, "s")["reached"]] == [True, False]
    assert [harness.goal("", x, 2, "x", at_least=True)["reached"] for x in (2, 1.9)] == [True, False]


def test_a_result_is_one_object_that_says_what_it_ran_on_and_not_where(bench, tmp_path):
    done = bench("--json", "--rounds", "3", "--out", tmp_path / "out" / "sums.json")
    result = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "sums.json").read_text()) == result
    assert result["bench"] == "sums"
    assert result["settings"] == {"threads": 1, "rounds": 3, "quick": False}
    assert result["goals"][0]["measured"] == 0.1235
    assert {"cpu", "instructions", "cores", "threads", "torch", "transformers", "commit", "date"} <= set(
        result["machine"]
    )
    assert str(tmp_path) not in done.stdout and platform.node() not in result["machine"].values()


def test_quick_changes_defaults_and_a_flag_that_is_given_wins(bench):
    results = [json.loads(bench("--json", "--quick", *words).stdout) for words in ((), ("--rounds", "4"))]
    assert [result["settings"]["rounds"] for result in results] == [2, 4]
    assert "goals" not in results[0]  # goals are for full sizes


def test_outputs_that_differ_end_the_bench_with_a_sentence_and_no_time(bench):
    done = bench("--json", "--rounds", "7")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sums: not identical: the sum is 3 and 4. No time is printed.\n"


def test_people_get_a_table(bench):
    shown = bench("--rounds", "1").stdout
    assert "peer" in shown and "reached: sum: 0.1235 s (goal: at most 1 s)" in shown
