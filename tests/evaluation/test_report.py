"""The report is one file that fetches nothing, shows item texts as data, and says the same as its JSON."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.errors import LlmrecError
from llmrec.evaluation.clicks import evaluate_clicks
from llmrec.evaluation.cost import Cost, pareto_front
from llmrec.evaluation.provenance import provenance
from llmrec.evaluation.records import read_results, records_of, shown_metrics
from llmrec.evaluation.report import Example, Report, to_json, write_report
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.significance import paired_differences
from llmrec.evaluation.tasks import ClicksTask, Interval, load_task
from llmrec.files import write_json
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
    return Report("A ring", "Two baselines.", evaluations, facts, {"ring": training}, codes, (8, 8, 8), examples)


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


def test_bold_is_who_is_significantly_above_all_others_and_nobody_else(page, report, tmp_path):
    records = records_of(report.evaluations)
    for group in (report.evaluations[:4], report.evaluations[4:]):
        values = [e.metrics["ndcg@10"]["value"] for e in group]
        best = group[int(np.argmax(values))]
        pairs = [paired_differences(best, other, ["ndcg@10"])[0] for other in group if other is not best]
        leaders = [r for r, e in zip(records, report.evaluations, strict=True) if e in group and "ndcg@10" in r.leads]
        assert len(leaders) == all(pair.verdict == "above" for pair in pairs)
    assert page.count("<td><strong>") == 0, "the chain, EASE-R and their hybrid are too close for anybody to lead"
    two = [
        replace(e, cost=Cost(latency_ms_single_median=ms))
        for e, ms in zip(report.evaluations[:2], (1.5, 2.5), strict=True)
    ]
    write_report(tmp_path / "r.html", Report("Two", "", two))
    chain, alone = records_of(two)[1], (tmp_path / "r.html").read_text()
    assert {"ndcg@10", "recall@10", "mrr@10"} <= chain.leads and not records_of(two)[0].leads
    assert alone.count("<td><strong>") == len(chain.leads.intersection(shown_metrics([chain]))) >= 3
    assert f"<td><strong>{chain.metrics['ndcg@10']['value']:.4f}</strong>".replace("<strong>0.", "<strong>.") in alone
    assert '<th scope="col">ms alone</th>' in alone and "<td>2.5</td>" in alone
    assert "against milliseconds a request: popularity" in alone and "on the Pareto front" in alone


CLICKS = ClicksTask(kind="clicks", name="clicks", version=1, interval=Interval(resamples=100))


@pytest.fixture(scope="module")
def of_clicks():
    """A scorer that knows, and one that says a half of everything, asked twenty rows of each of 40 users."""
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(40, dtype=np.int32), 20)
    liked = rng.random(800) < 0.5
    zeros = np.zeros(800, np.int32)
    rows = ClickExamples(users, zeros, liked, zeros[:, None], zeros, zeros, None)
    protocol = {
        "data": {"name": "films"}, "task": {"name": "clicks", "version": 1, "kind": "clicks"}, "subset": "test", "num_rows": 800,
        "num_users": 40, "gauc_users": 40, "gauc_users_left_out": 0, "split": {},
        "interval": {"kind": "percentile bootstrap over users", **CLICKS.interval.model_dump()},
    }  # fmt: skip
    knows = np.clip(0.8 * liked + 0.1 + rng.normal(0, 0.02, 800), 0, 1)
    masks = {"early": np.arange(800) < 700, "few": np.arange(800) < 100}
    return [
        evaluate_clicks(name, {}, scores, rows, protocol, CLICKS, kind=kind, masks=masks)
        for name, scores, kind in (("knows", knows, "model"), ("half", np.full(800, 0.5), "baseline"))
    ]


def test_clicks_have_their_table_calibration_and_slices(of_clicks, tmp_path):
    write_report(tmp_path / "r.html", Report("Clicks", "", of_clicks))
    page = (tmp_path / "r.html").read_text()
    assert "clicks on films: 800 test examples of 40 users (GAUC: of 40 who have both answers)" in page
    assert "<td><strong>1.0000</strong>" in page and "Log loss" in page
    assert "Calibration; knows: " in page and "half: 0.50 said, 0.5" in page
    assert "early: 35 users: " in page and "few: 5 users" not in page
    assert "knows is above half by .5000 in AUC" in page
    for absent in ("Popularity bias:", "milliseconds a request"):
        assert absent not in page


def test_clicks_and_rankings_in_one_report_are_two_parts(of_clicks, report, tmp_path):
    places = {"first_choice_by_position": [0.75, 0.25], "accuracy_by_target_position": [0.9, None], "chance": 0.5}
    everything = Report("Both", "", [*report.evaluations[:2], *of_clicks], position_bias={"chooser": places})
    write_report(tmp_path / "r.html", everything)
    page = (tmp_path / "r.html").read_text()
    assert "<h2>leave_one_out on ring</h2>" in page and "<h2>clicks on films</h2>" in page
    assert page.count('<th scope="col">recommender</th>') == 2
    assert "Choices by place; chooser: 0.75, 0.25" in page
    write_json(tmp_path / "r.json", to_json(everything))
    assert json.loads((tmp_path / "r.json").read_text())["position_bias"] == {"chooser": places}
    found = read_results(tmp_path / "r.json")
    assert [each.name for each in found] == ["popularity", "first-order Markov chain", "knows", "half"]
    assert [each.metrics for each in found] == [each.metrics for each in everything.evaluations]
    assert (
        found[2].reliability["counts"] and sum(found[2].reliability["counts"]) == 800 and found[0].reliability is None
    )
    assert found[2].leads >= {"auc", "gauc", "logloss"}


def test_the_pareto_front_by_hand():
    # 1 ms .10; 2 ms .30; 2 ms .20 (beaten at its own price); 5 ms .30 (dearer, no better); 9 ms .31
    costs, values = [1, 2, 2, 5, 9], [0.10, 0.30, 0.20, 0.30, 0.31]
    assert pareto_front(costs, values) == [True, True, False, False, True]
    assert pareto_front(costs, values, higher_is_better=False) == [True, False, False, False, False]
    assert pareto_front([1, 1], [0.5, 0.5]) == [True, True], "equals do not beat each other"


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
