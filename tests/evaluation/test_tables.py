"""Tables say one protocol each, mark who leads by differences alone, and are whole Markdown and LaTeX."""

import json
import re
import signal
import subprocess
import sys

import pytest

from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.records import Record, groups_of, read_results
from llmrec.evaluation.tables import as_latex, as_markdown, escaped_latex, table_of, write_tables

FACTS = {"command": "llmrec eval a_b", "commit": "abc", "seed": 0, "machine": "one, 2 cores", "date": "2026-12-01"}


def protocol(name="leave_one_out", **changed):
    return {
        "data": {"name": "films_1"}, "task": {"name": name, "version": 1, "kind": "ranking"}, "subset": "test", "fit": "train",
        "candidates": "all", "exclude_seen": True, "num_users": 1000, "num_items": 50, "interval": {"level": 0.95},
        "recommender": {"name": "x"},
    } | changed  # fmt: skip


def metric(value, low=None, high=None, **more):
    return {"value": value, "low": low, "high": high, **more}


def record(name, ndcg, **changed):
    fields = {"protocol": protocol(), "facts": FACTS} | changed
    return Record(name, metrics={"recall@10": metric(0.5, 0.4, 0.6), "hit@10": metric(0.5), "ndcg@10": ndcg}, **fields)


RECORDS = [
    record("50 % & more_or_less", metric(0.25, 0.2, 0.3, std=0.0123), leads=frozenset({"ndcg@10"}),
           cost=Cost(latency_ms_single_median=1.2345, trained_parameters=2_271_361, training_cpu_minutes=0.002, device="cpu")),
    record("popularity", metric(0.1, 0.05, 0.15)),
]  # fmt: skip
MARKDOWN = """\
leave_one_out on films_1: 1,000 test users, all 50 items, seen items filtered, training events: train

| | NDCG@10 | Recall@10 | ms alone | trained parameters | CPU min to train |
| --- | --- | --- | --- | --- | --- |
| 50 % & more_or_less | **.2500** (.2000 to .3000; std .0123) | .5000 (.4000 to .6000) | 1.23 | 2.27 M | <.01 |
| popularity | .1000 (.0500 to .1500) | .5000 (.4000 to .6000) | – | – | – |

With a value: its 95 % interval over users. Bold: significantly better than every other row by paired differences over users; \
in other columns nobody is. Cost as measured, on cpu; no part of the protocol.

command: `llmrec eval a_b`; commit: `abc`; seed: `0`; machine: `one, 2 cores`; date: `2026-12-01`
"""
LATEX_ROW = (
    r"50 \% \& more\_or\_less & \textbf{.2500} {\scriptsize (.2000 to .3000; std .0123)} & "
    r".5000 {\scriptsize (.4000 to .6000)} & 1.23 & 2.27 M & $<$.01 \\"
)


def test_markdown_as_it_is_written(tmp_path):
    write_tables(tmp_path / "x.md", RECORDS)
    assert (tmp_path / "x.md").read_text() == MARKDOWN


def test_latex_as_it_is_written(tmp_path):
    write_tables(tmp_path / "x.tex", RECORDS)
    text = (tmp_path / "x.tex").read_text()
    assert LATEX_ROW in text.splitlines()
    assert text.startswith("% command: llmrec eval a_b\n")
    assert r"\begin{tabular}{lrrrrr}" in text and r"\caption{leave\_one\_out on films\_1: 1,000" in text


HOSTILE = "\\input{x} $5 {half ~100% #1 a_b^c <&> − –\n\\end{table}"


def test_latex_of_hostile_names_is_whole():
    """What TeX needs: braces that close, environments that end, rows of as many cells as columns, no bare special character."""
    text = as_latex([table_of([record(HOSTILE, metric(0.1)), RECORDS[1]])], [{"command": HOSTILE}])
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    depth, environments = 0, []
    tokens = re.findall(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+|\\.|[{}]|.", body, re.DOTALL)
    for token in tokens:
        if found := re.fullmatch(r"\\(begin|end)\{(\w+)\}", token):
            assert environments.append(found[2]) is None if found[1] == "begin" else environments.pop() == found[2]
        elif token in "{}":
            depth += 1 if token == "{" else -1
            assert depth >= 0
        assert token not in ("#", "^", "~", "_", "%")
    assert depth == 0 and environments == [] and tokens.count("$") % 2 == 0
    commands = set(re.findall(r"\\[a-zA-Z]+", body))
    assert commands <= {f"\\{name}" for name in (
        "begin", "end", "caption", "hline", "textbf", "scriptsize", "par", "footnotesize", "textbackslash", "textasciitilde",
        "textasciicircum")}  # fmt: skip
    columns = len(re.search(r"\\begin\{tabular\}\{(l r*|lr*)\}", body)[1])
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)
    assert len([line for line in text.splitlines() if line.startswith("%")]) == 1, "a comment stays in its line"


def test_what_latex_prints():
    assert escaped_latex("a_b & 5 %") == r"a\_b \& 5 \%"
    assert escaped_latex("\\") == r"\textbackslash{}"


@pytest.mark.parametrize(
    "other",
    [
        protocol(
            candidates="the target and 19 items",
            task={"name": "sampled_candidates", "version": 1, "kind": "candidates"},
        ),
        protocol(exclude_seen=False),
        protocol(fit="train+valid"),
    ],
)
def test_two_protocols_are_two_tables(other):
    records = [RECORDS[0], record("other", metric(0.9), protocol=other), RECORDS[1]]
    assert [[each.name for each in group] for group in groups_of(records)] == [
        ["50 % & more_or_less", "popularity"],
        ["other"],
    ]
    assert as_markdown([table_of(group) for group in groups_of(records)]).count("| | NDCG@10 |") == 2


def test_nobody_is_bold_where_no_difference_says_so():
    table = table_of([record("first", metric(0.9, 0.8, 1.0)), record("second", metric(0.1, 0.0, 0.2))])
    assert not any(cell.best for _, cells in table.rows for cell in cells)


def test_nobody_is_bold_among_results_of_several_files_which_were_not_tested_against_each_other():
    table = table_of([RECORDS[0], record("elsewhere", metric(0.9), facts={"command": "another"})])
    assert not any(cell.best for _, cells in table.rows for cell in cells) and "Bold" not in " ".join(table.notes)


def test_a_metric_that_does_not_exist_is_said():
    assert table_of([record("first", metric(None))]).rows[0][1][0].value == "none"


def test_results_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"evaluations": [each.to_json() for each in RECORDS], "facts": FACTS}))
    found = read_results(path)
    assert [vars(each) for each in found] == [vars(each) for each in RECORDS]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"rows": []}', "should hold 'evaluations'.*but it holds rows"),
        ('{"evaluations": []}', "should hold 'evaluations'"),
        ('{"evaluations": [{"metrics": {}}]}', "is not whole"),
        ('{"evaluations": [7]}', "is not whole"),
    ],
)
def test_a_file_without_results_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_results(tmp_path / "x.json")


def test_another_ending_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.md or \.tex"):
        write_tables(tmp_path / "x.csv", RECORDS)


def test_a_killed_write_leaves_the_old_page(tmp_path):
    out = tmp_path / "page.md"
    out.write_text("the old page\n")
    code = (
        "import os, pathlib, signal, sys\nfrom llmrec import files\n"
        "files._flush_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from tests.evaluation.test_tables import RECORDS\nfrom llmrec.evaluation.tables import write_tables\n"
        "write_tables(pathlib.Path(sys.argv[1]), RECORDS)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL and out.read_text() == "the old page\n"
