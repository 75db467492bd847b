"""`llmrec suite`: the smoke suite as CI runs it, every kind of cell in it; what is said on the way and at the end."""

import json
import shutil

import pytest

from llmrec.evaluation.suite.settings import load_suite
from tests.apps.calling import assert_one_sentence, call


@pytest.mark.slow
def test_the_smoke_suite_measures_every_kind_of_cell_and_writes_results(few_users, tmp_path, capsys):
    out = tmp_path / "out"
    found = call(capsys, "suite", "smoke", "--data", few_users, "--out", out, "--json").json
    assert [each["state"] for each in found["cells"]] == ["done"] * len(found["cells"]), found
    assert {each["kind"] for each in found["cells"]} == {"ctr", "tuned", "asked", "baseline"}
    assert found["cpu_hours"] > 0 and found["cpu_hours_left"] == 0
    results = json.loads((out / "results.json").read_text())
    counted = [each["protocol"]["recommender"].get("seeds") for each in results["evaluations"]]
    assert [0, 1] in counted, "two seeds are one row, their mean"
    assert len(results["evaluations"]) == len(found["cells"]) - 1
    count = len(found["cells"])
    assert results["facts"]["cpu_hours"] > 0 and results["facts"]["cells"] == f"{count} of {count}"
    page = (out / "report.html").read_text()
    assert "unique id" in page and "popularity" in page
    tuned = json.loads((out / "cells" / "clicks.unique_id-0" / "result.json").read_text())
    [tuned] = tuned["evaluations"]
    assert tuned["protocol"]["num_rows"] == 24 and tuned["cost"]["trained_parameters"] > 0
    assert tuned["cost"]["tokens_per_prompt"] > 0

    shutil.rmtree(out / "cells" / "next_item.markov-0")
    listed = call(capsys, "suite", "smoke", "--data", few_users, "--out", out, "--list", "--json").json
    assert [each["cell"] for each in listed["cells"] if each["state"] == "open"] == ["next_item.markov-0"]


def test_mistakes_are_one_sentence(few_users, tmp_path, capsys):
    out = tmp_path / "out"
    assert_one_sentence(call(capsys, "suite", "smok", "--data", few_users, "--out", out), "Did you mean 'smoke'?")
    assert_one_sentence(call(capsys, "suite", "smoke", "--data", tmp_path / "no", "--out", out), "no")
    asked = ("suite", "smoke", "--data", few_users, "--out", out, "--only", "nothing*")
    assert_one_sentence(call(capsys, *asked), "fits 'nothing*'")
    assert not (out / "cells").exists()


@pytest.mark.slow
def test_a_suite_with_a_cell_that_failed_exits_with_1_and_says_which(few_users, tmp_path, capsys):
    cells = "[{kind: baseline, tasks: [next], models: [nobody]}]"
    text = f"{{name: bad, description: bad, cost_seconds: 0, tasks: {{next: {{task: leave_one_out}}}}, cells: {cells}}}"
    (tmp_path / "bad.yaml").write_text(text)
    load_suite(tmp_path / "bad.yaml")
    called = call(capsys, "suite", tmp_path / "bad.yaml", "--data", few_users, "--out", tmp_path / "out")
    assert called.status == 1 and "there is no baseline 'nobody'" in called.out
