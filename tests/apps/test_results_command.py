"""`llmrec results`: tables out of kept results, and sentences where there are none."""

import json

import pytest

from tests.apps.calling import assert_one_sentence, call
from tests.evaluation.test_tables import FACTS, RECORDS, metric, protocol, record


@pytest.fixture
def kept(tmp_path):
    """A folder with results of two files, one protocol, and something else that was measured."""
    folder = tmp_path / "kept"
    folder.mkdir()
    other = record("EASE-R", metric(0.3, 0.2, 0.4))
    alike = record("EASE-R", metric(0.7, 0.6, 0.8), protocol=protocol(split={"policy": "another"}))
    (folder / "a.json").write_text(json.dumps({"evaluations": [r.to_json() for r in RECORDS], "facts": FACTS}))
    second = {
        "evaluations": [r.to_json() for r in (RECORDS[1], other, alike)],
        "facts": FACTS | {"command": "llmrec eval b"},
    }
    (folder / "b.json").write_text(json.dumps(second))
    (folder / "c.json").write_text('{"rows": []}')
    return folder


def test_a_page_has_one_table_a_protocol_with_the_files_of_every_row(capsys, kept):
    out = kept.parent / "docs" / "page.md"
    assert call(capsys, "results", kept, "--out", out).status == 0
    page = out.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| popularity |")]
    assert len(rows) == 1 and rows[0].endswith("| [1](../kept/a.json), [2](../kept/b.json) |"), (
        "one row, for the numbers are one"
    )
    assert page.count("## films_1") == 1 and page.count("| | NDCG@10 |") == 2
    assert "they differ in `split.policy`" in page
    assert "- 2: [b.json](../kept/b.json): command `llmrec eval b`, commit `abc`, seed `0`" in page
    assert "Other references" in page and "[c.json](../kept/c.json)" in page
    assert "**" not in page, "rows of two files were not tested against each other"


def test_the_same_for_a_paper(capsys, kept):
    assert call(capsys, "results", kept / "a.json", "--out", kept / "x.tex").status == 0
    assert r"\textbf{.2500}" in (kept / "x.tex").read_text()


@pytest.mark.parametrize(
    ("path", "out", "sentence"),
    [
        ("a.json", "x.csv", "ends in .md or .tex"),
        ("none.json", "x.md", "there is no"),
        ("c.json", "x.md", "no file of results"),
    ],
)
def test_what_cannot_be_a_table_is_a_sentence(capsys, kept, path, out, sentence):
    called = call(capsys, "results", kept / path, "--out", kept / out)
    assert_one_sentence(called, sentence)
    assert not (kept / out).exists()
