import json

import pytest
from typer.testing import CliRunner

from llmrec.apps.data_commands import data_app
from llmrec.errors import DataError

ITEMS = "item_id,title\na,Alien\nb,Brazil\n"
EVENTS = "user,item,rating,time\nu,a,5,1\nu,b,3,2\nu,a,4,3\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events.csv").write_text(EVENTS)
    return ["--items", str(tmp_path / "items.csv"), "--interactions", str(tmp_path / "events.csv")]


def test_help_shows_an_example():
    for command in ("check", "prepare"):
        shown = CliRunner().invoke(data_app, [command, "--help"]).output
        assert f"Example: llmrec data {command} --items" in shown


def test_prepare_prints_one_json_object(files, tmp_path):
    out = str(tmp_path / "out")
    result = CliRunner().invoke(data_app, ["prepare", *files, "--out", out, "--rating-threshold", "4", "--json"])
    card = json.loads(result.stdout)
    assert result.exit_code == 0 and card["folder"] == out
    assert card["counts"]["events"] == 2 and card["ratings"] == {"policy": "threshold", "threshold": 4.0}


def test_prepare_prints_counts_for_people(files, tmp_path):
    result = CliRunner().invoke(data_app, ["prepare", *files, "--out", str(tmp_path / "out"), "--ties", "shuffle"])
    assert result.exit_code == 0 and "users                                    1" in result.stdout
    assert f"Wrote {tmp_path / 'out'}" in result.stdout


def test_check_exits_2_where_there_are_problems_and_says_them(files, tmp_path):
    assert CliRunner().invoke(data_app, ["check", *files]).exit_code == 0
    (tmp_path / "events.csv").write_text(EVENTS + "u,zz,1,9\n")
    result = CliRunner().invoke(data_app, ["check", *files])
    assert result.exit_code == 2 and "problem: 1 of 4 interactions are with 1 item ids" in result.stdout
    report = json.loads(CliRunner().invoke(data_app, ["check", *files, "--json"]).stdout)
    assert not report["ok"] and report["problems"][0]["examples"] == ["zz"]


def test_bad_input_reaches_the_command_line_as_one_of_our_errors(files, tmp_path):
    result = CliRunner().invoke(data_app, ["prepare", *files, "--out", str(tmp_path)])
    assert isinstance(result.exception, DataError) and "nothing of it will be deleted" in str(result.exception)


def test_columns_may_be_named(files, tmp_path):
    (tmp_path / "items.csv").write_text("code,words\na,Alien\nb,Brazil\n")
    chosen = ["--catalog-id-column", "code", "--title-column", "words"]
    assert CliRunner().invoke(data_app, ["check", *files]).exit_code == 2
    assert CliRunner().invoke(data_app, ["check", *files, *chosen]).exit_code == 0
    result = CliRunner().invoke(data_app, ["prepare", *files, *chosen, "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(result.stdout)["counts"]["items"] == 2
