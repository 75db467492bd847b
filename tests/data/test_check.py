import json

import pytest
from typer.testing import CliRunner

from llmrec.apps.cli import make_app
from llmrec.data.catalog import Catalog
from llmrec.data.check import check
from llmrec.data.folder import load_data
from llmrec.data.readers import read_items
from llmrec.errors import RequestError
from llmrec.recommenders.rules import ItemRules

ITEMS = (
    ",item_id,title,genres,image,link\n"
    "0,1,Tom &amp; Jerry <b>Soap</b>,Action|Comedy,1.png,https://a.org/1\n"
    f"1,2,Lamp,Comedy,{'x' * 300}/2.png,https://a.org/2\n"
    "2,2 ,Lamp oil,Drama,,https://a.org/3\n"
)
EVENTS = "user_id,item_id\nu,1\nu ,2\nu,2 \n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "1.png").write_bytes(b"an image")
    return tmp_path


def test_what_is_odd_about_items_is_counted_and_shown(folder):
    report = check(folder / "items.csv", folder / "events.csv")
    warnings = " ".join(entry["message"] for entry in report["warnings"])
    assert report["ok"]
    for sentence in (
        "1 columns of the items have no name",
        "1 columns of the items hold no words and stay out of texts unless they are named: 'link' (addresses)",
        "1 titles hold markup, such as 'Tom &amp; Jerry <b>Soap</b>'; take it out with --unescape",
        "2 item ids differ from another one by spaces alone, such as '2', '2 ' (with a space at the end)",
        "2 user ids differ from another one by spaces alone, such as 'u', 'u ' (with a space at the end)",
        "1 of 2 images are no file under",
    ):
        assert sentence in warnings, sentence


def test_ids_that_spaces_alone_part_from_the_items_are_counted(folder):
    (folder / "events.csv").write_text("user_id, item_id\nu, 1\nu, 2\nu, 7\n")
    (problem,) = check(folder / "items.csv", folder / "events.csv")["problems"]
    assert "such as ' 1' (with a space at the start) (nearest: '1'" in problem["message"]
    assert (
        "2 of these ids differ from an item's by spaces alone" in problem["message"] and problem["examples"][0] == " 1"
    )


def test_a_image_whose_name_no_file_can_have_is_no_image(folder):
    rows = [
        json.loads(line) for line in ('{"item_id": "1", "image": "1.png"}', '{"item_id": "2", "image": "a\\u0000.png"}')
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row | {"title": "T"}) + "\n" for row in rows))
    (folder / "events.csv").write_text("user_id,item_id\nu,1\nu,2\n")
    assert "1 of 2 images are no file" in str(check(folder / "items.jsonl", folder / "events.csv")["warnings"])
    options = [
        "--items",
        str(folder / "items.jsonl"),
        "--interactions",
        str(folder / "events.csv"),
        "--out",
        str(folder / "out"),
    ]
    assert CliRunner().invoke(make_app(), ["data", "prepare", *options]).exit_code == 0
    assert load_data(folder / "out").catalog.table["image"].to_pylist() == ["images/1.png", None]


def test_prepare_takes_markup_out_on_request_and_says_what_it_left_out(folder):
    options = [
        "--items",
        str(folder / "items.csv"),
        "--interactions",
        str(folder / "events.csv"),
        "--out",
        str(folder / "out"),
    ]
    result = CliRunner().invoke(make_app(), ["data", "prepare", *options, "--unescape"])
    assert result.exit_code == 0, result.output
    assert "columns without name                     1" in result.output
    assert "stay out of item texts unless they are named: link (addresses)" in result.output
    catalog = load_data(folder / "out").catalog
    assert catalog.titles == ["Tom & Jerry Soap", "Lamp", "Lamp oil"]
    assert catalog.texts()[0] == "Tom & Jerry Soap. genres: Action, Comedy"


def test_joined_genres_can_be_asked_for_and_older_data_say_how(folder):
    rules = ItemRules(Catalog(read_items(folder / "items.csv")))
    assert rules.choice(where="genres=Comedy").items.tolist() == [0, 1]
    before = ItemRules(Catalog.from_rows([{"item_id": "1", "title": "A", "genres": "Action|Comedy"}]))
    with pytest.raises(RequestError, match="Prepare the data again: several values in one text"):
        before.choice(where="genres=Comedy")
