"""What the documents point to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec.evaluation.records import read_results
from llmrec.evaluation.results_page import results_files, write_page

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_a_document_points_to_is_there(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    files = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    missing = [target for target in files if not (document.parent / target).exists()]
    assert not missing, f"{document.name} points to {missing}"


SITE = {
    "index.html": '<a href="page.html#there">x</a><img src="x.png"><link rel="stylesheet" href="site.css"><a href="https://x.org">x</a>',
    "page.html": '<h1 id="there">x</h1><a href="index.html">x</a>',
    "site.css": "a { background: url(x.png) }",
    "x.png": "",
}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("page.html", '<h1 id="there">x</h1>', None),
        (
            "page.html",
            '<h1 id="elsewhere">x</h1>',
            "index.html points to page.html#there, where there is no such place",
        ),
        ("page.html", '<p id="there"><a href="lost.html">x</a>', "page.html points to lost.html, which is not there"),
        ("page.html", '<p id="there"><img src="lost.png">', "page.html points to lost.png, which is not there"),
        (
            "page.html",
            '<p id="there"><script src="https://x.org/x.js">',
            "page.html loads https://x.org/x.js from elsewhere",
        ),
        ("site.css", "a { background: url('//x.org/x.png') }", "site.css loads //x.org/x.png from elsewhere"),
    ],
)
def test_a_dead_link_or_a_foreign_script_of_the_site_is_found(tmp_path, name, content, sentence):
    for file, text in (SITE | {name: content}).items():
        (tmp_path / file).write_text(text)
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "check_site.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == bool(sentence)
    assert done.stdout.strip() == sentence or (sentence is None and done.stdout.startswith("Every link"))


def test_every_page_is_part_of_the_site():
    listed = set(re.findall(r"^[a-z_]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE))
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == listed | {"index"}


def test_the_page_of_results_is_what_its_references_say(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = Path("docs/results.md").read_text(encoding="utf-8")
    command = "llmrec results eval/reference --out docs/results.md"
    write_page(tmp_path / "docs" / "results.md", results_files([Path("eval/reference")]), command)
    made = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    made = re.sub(r"\]\([^)]*/eval/reference/", "](../eval/reference/", made)
    assert page == made, f"run: {command}"


def _without_zero(value):
    return f"{value:.4f}".removeprefix("0")


def test_the_readmes_table_is_what_its_references_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+) \| (\.\d+) \| (\.\d+) \| (\.\d+) to (\.\d+) \| ?(\.\d+)? \| ?([.\d, ]*)\|$", readme, re.MULTILINE
    )
    found = {record.name: record.metrics for name in ("demo_soft_seeds", "demo_seeds")
             for record in read_results(ROOT / "eval" / "reference" / f"{name}.json")}  # fmt: skip
    assert len(rows) == 7
    for name, recall, ndcg, low, high, std, seeds in rows:
        of = found[name]["ndcg@10"]
        assert recall == _without_zero(found[name]["recall@10"]["value"]), name
        assert (ndcg, low, high) == tuple(_without_zero(of[key]) for key in ("value", "low", "high")), name
        assert std == ("" if "std" not in of else _without_zero(of["std"])), name
        assert seeds.strip() == ", ".join(map(_without_zero, of.get("seeds", ()))), name
