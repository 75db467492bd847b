import json
import shutil

import pytest

from llmrec.artifacts.run_folder import read_manifest
from llmrec.data.catalog import Catalog
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call, call_alone

HISTORY = ("--history", "50", "--history", "181")


def test_json_is_one_object_with_ids_titles_and_scores(tiny_code_run, capsys):
    called = call(capsys, "recommend", tiny_code_run, *HISTORY, "-k", "10", "--json")
    found = called.json["recommendations"]
    expected = Recommender.from_pretrained(tiny_code_run).recommend(["50", "181"], 10)
    assert [item["item_id"] for item in found] == [item.item_id for item in expected]
    assert [item["title"] for item in found] == [item.title for item in expected]
    assert [item["rank"] for item in found] == list(range(1, 11))
    assert called.json["history"] == ["50", "181"] and called.json["exclude_seen"] is True


@pytest.mark.slow
def test_loading_a_model_puts_nothing_else_on_standard_output(tiny_run):
    assert set(call_alone("recommend", tiny_run, "--json").json) == {
        "run",
        "history",
        "exclude_seen",
        "where",
        "diversity",
        "missing",
        "recommendations",
    }


def test_people_read_a_numbered_list(tiny_run, capsys):
    lines = call(capsys, "recommend", tiny_run, *HISTORY, "-k", "3").out.splitlines()
    assert [line.split(".")[0].strip() for line in lines] == ["1", "2", "3"]


def test_a_new_user_may_have_no_history(tiny_run, capsys):
    assert len(call(capsys, "recommend", tiny_run, "--json").json["recommendations"]) == 10


def test_a_history_longer_than_the_context_is_cut_and_still_excluded(tiny_code_run, capsys):
    history = [word for item in range(1, 701) for word in ("--history", str(item))]
    found = call(capsys, "recommend", tiny_code_run, *history, "--json").json["recommendations"]
    assert len(found) == 10 and all(int(item["item_id"]) > 700 for item in found)


def test_candidates_may_be_ids_or_a_file_of_ids(tiny_run, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("3\n\n 4 \n181\n")
    called = call(
        capsys, "recommend", tiny_run, *HISTORY, "--candidates", "2", "--candidates", tmp_path / "ids.txt", "--json"
    )
    assert {item["item_id"] for item in called.json["recommendations"]} == {"2", "3", "4"}
    seen_too = call(
        capsys, "recommend", tiny_run, *HISTORY, "--candidates", tmp_path / "ids.txt", "--include-seen", "--json"
    )
    assert {item["item_id"] for item in seen_too.json["recommendations"]} == {"3", "4", "181"}


def test_a_file_never_hides_an_item_of_its_name(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2").write_text("3\n")
    found = call(capsys, "recommend", tiny_run, "--candidates", "2", "--json").json["recommendations"]
    assert [item["item_id"] for item in found] == ["2"]


def test_filters_stock_and_exclusions_leave_what_they_say(tiny_code_run, tmp_path, capsys):
    called = call(
        capsys, "recommend", tiny_code_run, *HISTORY, "--where", "genres=Comedy", "--where", "year>=1996", "--json"
    )
    rows = {row["item_id"]: row for row in Catalog.load(tiny_code_run / "model" / "items.parquet").table.to_pylist()}
    found = [rows[item["item_id"]] for item in called.json["recommendations"]]
    assert len(found) == 10 and all("Comedy" in row["genres"] and int(row["year"]) >= 1996 for row in found)
    assert called.json["where"] == ["genres=Comedy", "year>=1996"] and called.json["missing"] == 0
    (tmp_path / "stock").write_text("1\n2\n3\nnew in the shop\n")
    called = call(
        capsys, "recommend", tiny_code_run, "--in-stock", tmp_path / "stock", "--exclude", "2", "-k", "5", "--json"
    )
    assert {item["item_id"] for item in called.json["recommendations"]} == {"1", "3"} and called.json["missing"] == 3


def test_it_says_how_many_are_missing(tiny_run, capsys):
    called = call(capsys, "recommend", tiny_run, "--candidates", "2", "--candidates", "3", "-k", "5")
    assert len(called.out.splitlines()) == 2
    assert called.err.strip() == "3 of 5 are missing: no other item may be recommended here."


def test_a_diverse_list_keeps_its_first_item_and_its_scores(tiny_code_run, capsys):
    plain = call(capsys, "recommend", tiny_code_run, *HISTORY, "-k", "25", "--json").json["recommendations"]
    called = call(capsys, "recommend", tiny_code_run, *HISTORY, "-k", "5", "--diversity", "mmr:1", "--json").json
    found = called["recommendations"]
    assert called["diversity"] == "mmr:1" and found[0] == plain[0] and len(found) == 5
    assert [item["item_id"] for item in found] != [item["item_id"] for item in plain[:5]]
    assert {item["item_id"] for item in found} <= {item["item_id"] for item in plain}


def test_scores_come_in_the_order_asked_for(tiny_code_run, capsys):
    called = call(capsys, "score", tiny_code_run, *HISTORY, "--candidate", "1", "--candidate", "50", "--json")
    scores = called.json["scores"]
    assert [row["item_id"] for row in scores] == ["1", "50"] and scores[0]["title"] == "Toy Story"
    expected = Recommender.from_pretrained(tiny_code_run).score(["50", "181"], ["1", "50"])
    assert [row["score"] for row in scores] == pytest.approx(expected)
    assert "Toy Story" in call(capsys, "score", tiny_code_run, "--candidate", "1").out


def test_titles_cannot_steer_the_terminal(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    table = Catalog.load(tmp_path / "model" / "items.parquet").table
    rows = [{**row, "title": f"\x1b[2J[red]{row['title']}\nIgnore"} for row in table.to_pylist()]
    hostile = Catalog.from_rows(rows)
    hostile.save(tmp_path / "model" / "items.parquet")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())  # a stranger's run agrees with itself
    manifest["catalog_hash"] = hostile.content_hash
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    called = call(capsys, "recommend", tmp_path, "-k", "2")
    assert called.status == 0 and len(called.out.splitlines()) == 2
    assert "\x1b" not in called.out and "[red]" in called.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--history", "5000"], "no item id '5000'. The nearest ids are: '500'"),
        (["--candidates", "no-such-file.txt"], "no item id 'no-such-file.txt'"),
        (["--instruction", "funny"], "has no {{ instruction }}"),
        (["--where", "genre=Comedy"], "no column 'genre' to filter by. The nearest are: 'genres'"),
        (["--where", "genres=Comdy"], "no item has 'Comdy' as its genres. The nearest values are: 'Comedy'"),
        (["--where", "year>3000"], "none of the 1682 items is left by: year>3000"),
        (["--in-stock", "nowhere.txt"], "'nowhere.txt' is neither"),
        (["--exclude", "5000"], "no item id '5000'"),
        (["--diversity", "dpp"], "diversity should read like mmr:0.3"),
        (["--decoding", "grounding"], "this run's items are of the form 'unique_id'"),
        (["--decoding", "wishing"], "decoding should be trie or grounding, but it is 'wishing'"),
        (["--softmax-scope", "softest"], "softmax_scope should be vocabulary, level, trie, but it is 'softest'"),
        (
            ["--decoding", "grounding", "--softmax-scope", "vocabulary"],
            "grounding writes free text and has no softmax scope",
        ),
        (["--device", "abacus"], "the device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(tiny_run, capsys, arguments, sentence):
    assert_one_sentence(call(capsys, "recommend", tiny_run, *arguments), sentence)


@pytest.mark.parametrize("scope", ["vocabulary", "level", "trie"])
def test_a_list_has_the_scores_that_its_items_have_by_the_same_rule(tiny_code_run, capsys, scope):
    asked = (tiny_code_run, *HISTORY, "--softmax-scope", scope, "--json")
    found = call(capsys, "recommend", *asked, "-k", "5").json["recommendations"]
    candidates = [word for item in found for word in ("--candidate", item["item_id"])]
    scores = call(capsys, "score", *asked, *candidates).json["scores"]
    assert [item["score"] for item in found] == pytest.approx([item["score"] for item in scores], abs=1e-4)


def test_the_rules_score_one_item_differently_and_the_trained_one_is_the_default(tiny_code_run, capsys):
    asked = ("score", tiny_code_run, *HISTORY, "--candidate", "172", "--json")
    scores = {
        scope: call(capsys, *asked, *(() if scope is None else ("--softmax-scope", scope))).json["scores"][0]["score"]
        for scope in (None, "vocabulary", "level", "trie")
    }
    assert (
        scores["vocabulary"] < scores["level"] < scores["trie"]
    )  # each softmax is over fewer tokens than the one before
    assert scores[None] == scores[read_manifest(tiny_code_run)["softmax_scope"]]


def test_a_binary_file_of_candidates_is_one_sentence(tiny_run, capsys):
    file = tiny_run / "model" / "items.parquet"
    assert_one_sentence(call(capsys, "recommend", tiny_run, "--candidates", file), "cannot read the item ids")


def test_a_hostile_prompt_does_not_run(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    prompt = (
        "{name: bare, task: next_item, kind: plain, variables: [history], "
        "template: \"{% for i in history %}{{ i }}{% endfor %}{{ ''.__class__.__mro__ }}\"}"
    )
    (tmp_path / "model" / "prompt.yaml").write_text(prompt)
    assert_one_sentence(call(capsys, "recommend", tmp_path), "which prompts may not")
