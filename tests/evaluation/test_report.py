"""The report is one file that fetches nothing, shows item texts as data, and says the same as its JSON."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import LlmrecError
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.tasks import load_task
from llmrec.recommenders.hybrid import Hybrid

HOSTILE = '<script>alert("{{ 7 * 7 }}")</script>'


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    num_items, rows = 30, (rng.integers(0, 30, (80, 1)) + np.cumsum(rng.choice([1, 2, 4], (80, 7)), axis=1)) % 30
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"Title {item}"} for item in range(num_items)])
    events = Interactions(np.arange(0, 561, 7), rows.ravel(), num_items)
    data = Data(catalog, events, Features(num_items), [f"u{user}" for user in range(80)], {"name": "ring"})
    split = load_task("leave_one_out").split.make(events)
    recommenders = [fit_baseline(name, split, "train") for name in ("popularity", "markov", "ease_r")]
    recommenders.append(Hybrid(recommenders[1], recommenders[2]).fit_weight(split.valid))
    evaluations = [
        evaluate(recommender, data, load_task("leave_one_out", [f"exclude_seen={seen}"]), split=split)
        for seen in (True, False)
        for recommender in recommenders
    ]
    training = [{"step": step, "loss": 5 - step / 10} for step in range(10)] + [{"step": 9, "eval_ndcg@10": 0.125}]
    examples = [Example("u0", [f"Old {n}" for n in range(12)] + [HOSTILE], ["Title 1", "Title 2"], "Title 2")]
    facts = provenance("make demo", seed=3)
    codes = rng.integers(0, 8, (num_items, 3))
    return Report("A ring", "Two baselines.", evaluations, facts, training, codes, (8, 8, 8), examples)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report)
    return path.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Tags that are open, and every address that the page would fetch."""

    void = frozenset({"meta", "img", "source", "br", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(page):
    parsed = _Page()
    parsed.feed(page)
    assert parsed.open == []
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert parsed.addresses and all(address.startswith("data:image/svg+xml;base64,") for address in parsed.addresses)
    for address in parsed.addresses:
        assert b"<svg" in base64.b64decode(address.partition(",")[2])


def test_item_texts_are_data(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(&#34;{{ 7 * 7 }}&#34;)&lt;/script&gt;" in page


def test_every_recommender_has_its_row_under_each_protocol(page, report):
    assert page.count('<th scope="row">hybrid (first-order Markov chain and EASE-R)</th>') == 2
    assert "seen items filtered" in page and "no filtering of seen items" in page
    for evaluation in report.evaluations:
        assert f"{evaluation.metrics['ndcg@10']['value']:.4f}".removeprefix("0") in page


def test_the_best_of_a_column_is_bold(page, report):
    best = max(e.metrics["ndcg@10"]["value"] for e in report.evaluations[:4])
    assert f"<strong>{best:.4f}</strong>".replace("<strong>0.", "<strong>.") in page


def test_verdicts_history_target_protocol_and_provenance_are_on_the_page(page, report):
    assert to_json(report)["verdicts"][0] in page.replace("&#39;", "'")
    latest_first = page.index("&lt;script") < page.index("Old 11") < page.index("Old 3")
    assert latest_first and "Old 2<" not in page and "and 3 before" in page
    assert re.search(r'class="hit">Title 2<', page)
    for words in ("exclude_seen", "make demo", "machine", "commit", "split.policy"):
        assert words in page


def test_the_json_holds_the_same_numbers_in_full(report):
    result = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert result["evaluations"][0]["metrics"] == report.evaluations[0].metrics
    assert {difference["first"] for difference in result["differences"]} == {"hybrid"}
    assert result["facts"]["seed"] == 3


def test_empty_parts_are_left_out(report, tmp_path):
    write_report(tmp_path / "r.html", Report("Bare", "Nothing more.", report.evaluations[:1]))
    bare = (tmp_path / "r.html").read_text()
    for heading in ("Training", "Semantic IDs", "Some users", "Paired differences", "Where these numbers"):
        assert f"<h2>{heading}" not in bare


def test_targets_that_cannot_be_hit_are_counted_on_the_page_with_the_metrics_without_them(report, tmp_path):
    rng = np.random.default_rng(1)
    rows = [[*rng.permutation(12)[:5], rng.integers(12)] for _ in range(60)]  # some last items are new to the user
    catalog = Catalog.from_rows([{"item_id": f"i{item}", "title": f"Title {item}"} for item in range(12)])
    data = Data(
        catalog, Interactions(np.arange(0, 361, 6), np.ravel(rows), 12), Features(12), [f"u{n}" for n in range(60)]
    )
    split = load_task("leave_one_out").make(data)
    evaluations = [
        evaluate(fit_baseline(name, split, "train"), data, load_task("leave_one_out"))
        for name in ("popularity", "markov")
    ]
    repeats = Report("Repeats", "Users come back.", evaluations)
    write_report(tmp_path / "r.html", repeats)
    page, num_new = (tmp_path / "r.html").read_text(), evaluations[0].slices["new_target"]["num_users"]
    assert 0 < num_new < 60 and to_json(repeats)["notes"][0] in page.replace("&#39;", "'")
    assert f"{60 - num_new} of 60 test instances" in page
    assert f"the {num_new} users whose target does not lie in their history" in page
    assert f"{evaluations[1].slices['new_target']['metrics']['recall@10']['value']:.4f}".removeprefix("0") in page
    assert to_json(report)["notes"] == []


def test_the_same_report_is_the_same_file(report, page, tmp_path):
    write_report(tmp_path / "again.html", report)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_an_unwritable_place_is_a_sentence(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", report)


def test_provenance_names_no_folder_of_this_machine():
    facts = provenance("llmrec demo", seed=0)
    assert set(facts) == {"command", "commit", "seed", "date", "machine", "python", "versions"}
    assert "/" not in facts["commit"] and "cores" in facts["machine"]


def test_tables_and_json_load_no_plotting():
    code = "import sys, llmrec.apps.eval.output; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
