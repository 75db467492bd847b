"""`llmrec add-items`: a file of new items in, a run that recommends them out, mistakes in one sentence."""

import shutil

import numpy as np
import pytest

from tests.apps.calling import assert_one_sentence, call

CSV = 'asin,name,genres\nn1,Toy Story 2,Animation\nn2,"Terminator 3, the one",Action\n'


@pytest.fixture
def run(growing_run, tmp_path):
    shutil.copytree(growing_run, tmp_path / "run")
    return tmp_path / "run"


def test_new_items_of_a_file_come_out_of_the_next_command(run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text(CSV)
    done = call(capsys, "add-items", run, tmp_path / "new.csv", "--json")
    assert (done.json["added"], done.json["num_items"]) == (2, 102)
    assert np.shape(done.json["codes"]) == (2, 3) and done.json["missing_columns"] == ["year"]
    assert "lack what the old ones have: year" in done.err
    assert "loss.softmax_scope=trie find new items" in done.err
    found = call(
        capsys, "recommend", run, "--history", "50", "-k", 2, "--candidates", "n1", "--candidates", "n2", "--json"
    )
    assert {item["title"] for item in found.json["recommendations"]} == {"Toy Story 2", "Terminator 3, the one"}


def test_another_folder_gets_the_grown_run(run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text(CSV)
    done = call(capsys, "add-items", run, tmp_path / "new.csv", "--out", tmp_path / "grown")
    assert done.status == 0 and "now knows 102. Nothing was trained." in done.out
    assert call(capsys, "score", tmp_path / "grown", "--candidate", "n1", "--json").status == 0
    assert_one_sentence(call(capsys, "score", run, "--candidate", "n1"), "has no item id 'n1'")


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("item_id,title\n50,Star Wars\n", [], "are in the catalog of 100 items already: '50'"),
        ("item_id,title\nn1,A\nn1,B\n", [], "'n1' (2 times)"),
        ("item_id,title\nn1,\n", [], "1 of 1 have none (the first is 'n1')"),
        ("item_id,title\n", [], "no items"),
        ("item_id,brand\nn1,x\n", [], "needs a column 'title'"),
        (CSV, ["--features", "taste"], "written NAME=FILE.npy"),
        (CSV, ["--features", "taste=nowhere.npy"], "there is no file 'nowhere.npy'"),
    ],
)
def test_mistakes_are_said_in_one_sentence(run, tmp_path, capsys, text, options, sentence):
    (tmp_path / "new.csv").write_text(text)
    assert_one_sentence(call(capsys, "add-items", run, tmp_path / "new.csv", *options), sentence)


def test_runs_of_one_token_an_item_refuse(tiny_run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text(CSV)
    assert_one_sentence(call(capsys, "add-items", tiny_run, tmp_path / "new.csv"), "items.form=semantic_id")
