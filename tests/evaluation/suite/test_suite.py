"""evaluation/suite: what a suite's file may say; cells that are kept, resumed, refused and told of when they fail."""

import json

import numpy as np
import pytest

from llmrec.data.folder import load_data
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.saved import users_path
from llmrec.evaluation.suite.kept import load_cell, save_cell
from llmrec.evaluation.suite.layout import Layout
from llmrec.evaluation.suite.measure import check_fits
from llmrec.evaluation.suite.run import Status, chosen_cells, minutes_left, run_cells, statuses
from llmrec.evaluation.suite.settings import load_suite, suite_names
from llmrec.evaluation.tasks import load_any_task
from llmrec.evaluation.verdicts import contests

COUNTERS = """
name: counters
description: Counters of a few users.
cost_seconds: 0
tasks:
  next_item: {task: leave_one_out, interval: {resamples: 50}}
cells:
  - {kind: baseline, tasks: [next_item], models: [popularity, markov]}
"""


@pytest.fixture
def suite_of(tmp_path):
    """A suite from YAML."""

    def made(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return load_suite(path)

    return made


@pytest.fixture
def counters(suite_of):
    """Two cells of seconds."""
    return suite_of(COUNTERS)


@pytest.fixture(scope="module")
def data(few_users):
    """80 users of MovieLens."""
    return load_data(few_users)


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_names_tasks_and_cells_that_fit_each_other(name, tmp_path, data):
    suite = load_suite(name)
    layout = Layout(tmp_path)
    layout.begin(suite, data)
    for cell in suite.expanded():
        check_fits(cell, load_any_task(layout.task(cell.task)))


def test_a_kept_ranking_is_read_back_as_it_was_and_pairs_with_another(data, tmp_path):
    task = load_any_task("leave_one_out", ["interval.resamples=50"])
    split = task.make(data)
    found = []
    for name in ("popularity", "markov"):
        before = evaluate(fit_baseline(name, split, "train"), data, task, split=split)
        save_cell(tmp_path / name, before, {"digest": "x", "cpu_minutes": 0})
        after = load_cell(tmp_path / name)
        assert json.loads(json.dumps(before.to_json())) == after.to_json() and after.kind == "baseline"
        for metric, values in before.per_user.items():
            np.testing.assert_array_equal(after.per_user[metric], values)
        found.append((before, after))
    again = contests([after for _, after in found])
    assert [[d.value for d in contest] for contest in again] == [
        [d.value for d in contest] for contest in contests([before for before, _ in found])
    ]


@pytest.mark.slow
def test_finished_cells_are_kept_and_a_killed_suite_goes_on_with_the_others(counters, data, tmp_path):
    layout, said = Layout(tmp_path / "out"), []
    first = run_cells(counters, data, layout, chosen_cells(counters, "*popularity*"), said.append)
    assert [each.state for each in first] == ["done"] and first[0].cpu_minutes > 0
    kept = layout.cell("next_item.popularity-0") / "result.json"
    moment = kept.stat().st_mtime_ns
    everything = list(counters.expanded())
    assert [each.state for each in statuses(counters, layout, everything)] == ["done", "open"]
    assert minutes_left(statuses(counters, layout, everything)) == pytest.approx(first[0].cpu_minutes)
    (layout.folder / "cells" / ".next_item.markov-0.1-00000000.tmp").mkdir()  # what a killed process left
    second = run_cells(counters, data, layout, everything, said.append)
    assert [each.state for each in second] == ["done", "done"] and kept.stat().st_mtime_ns == moment
    assert [text for text in said if ": next_item." in text] == [
        "1 of 1: next_item.popularity-0",
        "2 of 2: next_item.markov-0",
    ]
    alone = evaluate(
        fit_baseline("markov", (split := task_of(layout).make(data)), "train"), data, task_of(layout), split=split
    )
    assert load_cell(layout.cell("next_item.markov-0")).metrics == alone.metrics


def task_of(layout):
    return load_any_task(layout.task("next_item"))


@pytest.mark.slow
def test_a_cell_that_fails_is_told_of_in_a_sentence_and_the_others_go_on(suite_of, data, tmp_path):
    suite = suite_of(COUNTERS.replace("[popularity, markov]", "[popularty, popularity]"))
    found = run_cells(suite, data, Layout(tmp_path / "out"), list(suite.expanded()), lambda _: None)
    assert [each.state for each in found] == ["failed", "done"]
    assert "there is no baseline 'popularty'" in found[0].problem


def test_other_settings_other_data_and_broken_cells_are_refused(counters, suite_of, data, movielens, tmp_path):
    layout = Layout(tmp_path / "out")
    layout.begin(counters, data)
    with pytest.raises(ConfigError, match="are of other data"):
        layout.begin(counters, load_data(movielens))
    cell = next(counters.expanded())
    folder = layout.cell(cell.name)
    task = task_of(layout)
    split = task.make(data)
    result = evaluate(fit_baseline("popularity", split, "train"), data, task, split=split)
    save_cell(folder, result, {"digest": layout.digest(counters, cell), "cpu_minutes": 0.1})
    assert layout.is_done(counters, cell)
    other = suite_of(COUNTERS.replace("resamples: 50", "resamples: 60"), "other.yaml")
    layout.begin(other, data)
    with pytest.raises(ConfigError, match="measured by another task or other settings; delete"):
        layout.is_done(other, next(other.expanded()))
    users_path(folder / "result.json").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load_cell(folder)
    (folder / "result.json").write_text("{}")
    with pytest.raises(DataError, match=r"delete .* and it is measured again"):
        layout.is_done(counters, cell)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("tasks: [next_item]", "tasks: [next]", "names the task 'next', but the suite 'counters' has: next_item"),
        ("[popularity, markov]", "[markov, markov]", "two cells 'next_item.markov-0'"),
        ("kind: baseline", "kind: basline", "kind"),
        ("cost_seconds", "cost_second", "cost_seconds"),
    ],
)
def test_what_a_suite_cannot_say_is_refused(suite_of, old, new, match):
    with pytest.raises(ConfigError, match=match):
        suite_of(COUNTERS.replace(old, new))


def test_an_unknown_suite_names_the_nearest_and_a_pattern_that_fits_nothing_the_cells(counters):
    with pytest.raises(ConfigError, match=r"no suite 'recbenhc'.*Did you mean 'recbench'"):
        load_suite("recbenhc")
    with pytest.raises(ConfigError, match=r"no cell .* fits 'tuned\*' \(there are: next_item.popularity-0"):
        chosen_cells(counters, "tuned*")


def test_a_model_that_answers_something_else_than_the_task_asks_is_refused(suite_of, tmp_path, data):
    suite = suite_of(COUNTERS.replace("kind: baseline", "kind: ctr").replace("[popularity, markov]", "[din]"))
    layout = Layout(tmp_path / "out")
    layout.begin(suite, data)
    with pytest.raises(
        ConfigError, match="a cell of the kind ctr answers clicks, and the task is of the kind 'ranking'"
    ):
        check_fits(next(suite.expanded()), task_of(layout))


def test_what_is_left_is_unknown_until_a_cell_of_the_kind_is_done(counters):
    one, two = counters.expanded()
    assert minutes_left([Status(one, "open"), Status(two, "open")]) is None
    assert minutes_left([Status(one, "done", 2.0), Status(two, "open")]) == 2.0
    assert minutes_left([Status(one, "done", 2.0), Status(two, "failed")]) == 0.0


def test_a_cell_is_shown_as_people_write_it(suite_of):
    suite = suite_of(
        COUNTERS
        + """  - {kind: ctr, tasks: [next_item], models: [dcn_v2], name: semantic_embedding}
  - {kind: tuned, tasks: [next_item], recipe: next_item, name: tuned_unique_id}
  - {kind: asked, tasks: [next_item], models: [HuggingFaceTB/SmolLM2-135M-Instruct], name: zero_shot}
"""
    )
    assert [cell.shown for cell in suite.expanded()] == [
        "popularity", "first-order Markov chain", "DCNv2 (semantic embedding)", "tuned unique id",
        "SmolLM2-135M-Instruct (zero shot)",
    ]  # fmt: skip
