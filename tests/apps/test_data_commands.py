import json

import numpy as np
import pytest
from typer.testing import CliRunner

from llmrec.apps.data_commands import data_app
from llmrec.data.features import Features
from llmrec.errors import ConfigError, DataError
from tests.apps.calling import assert_one_sentence, call

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


def test_prepare_says_which_column_gave_the_order_and_which_was_passed_over(files, tmp_path):
    (tmp_path / "events.csv").write_text("user,item,position,clicked_at\nu,a,2,1700000000\nu,b,1,1700000001\n")
    asked = ["prepare", *files, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(data_app, asked)
    assert "Ordered by the column 'position' (steps, an order without a clock)." in result.stdout
    assert "warning: the interactions go by 'position', but 'clicked_at' holds a time in every row too" in result.stderr
    result = CliRunner().invoke(data_app, [*asked, "--time-column", "clicked_at"])
    assert "Ordered by the column 'clicked_at' (times)." in result.stdout and "warning" not in result.stderr
    (tmp_path / "events.csv").write_text("user,item\nu,a\nu,b\n")
    result = CliRunner().invoke(data_app, asked)
    assert "Ordered as the rows of the file, which has neither times nor steps." in result.stdout


def test_prepare_says_in_what_unit_times_with_decimals_are_kept_and_drops_doubles(files, tmp_path):
    (tmp_path / "events.csv").write_text("user,item,time\nu,a,0.25\nu,b,0.5\nu,a,0.25\n")
    result = CliRunner().invoke(data_app, ["prepare", *files, "--out", str(tmp_path / "out"), "--drop-doubles"])
    assert "Times have decimals and are kept as whole numbers of 1e-2." in result.stdout
    assert "dropped by double                        1" in result.stdout


def test_prepare_says_what_it_kept_and_refuses_to_lose_what_does_not_fit(files, tmp_path):
    command = ["prepare", *files, "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(data_app, command).exit_code == 0
    features = Features(2)
    features.add("sound", np.eye(2))
    features.save(tmp_path / "out" / "features")
    assert "Kept, because they fit these data: features 'sound'." in CliRunner().invoke(data_app, command).stdout
    assert json.loads(CliRunner().invoke(data_app, [*command, "--json"]).stdout)["kept"] == ["features 'sound'"]
    (tmp_path / "items.csv").write_text(ITEMS + "c,Casablanca\n")
    refused = CliRunner().invoke(data_app, command).exception
    assert isinstance(refused, DataError) and "features 'sound'. They would be lost" in str(refused)
    assert CliRunner().invoke(data_app, [*command, "--force"]).exit_code == 0
    assert not (tmp_path / "out" / "features").exists()


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_cannot_be_one_is_refused(files, tmp_path, seed):
    command = ["prepare", *files, "--out", str(tmp_path / "out"), "--ties", "shuffle", "--seed", seed]
    refused = CliRunner().invoke(data_app, command).exception
    assert isinstance(refused, ConfigError) and f"a seed is a number from 0 to 4294967295, but it is {seed}" in str(
        refused
    )
    assert not (tmp_path / "out").exists()


def test_a_published_set_is_a_data_folder_with_its_splits(bench_data, tmp_path, capsys):
    out = tmp_path / "data"
    called = call(capsys, "data", "published", "tallrec_movie", bench_data / "tallrec_movie", "--out", out, "--json")
    assert called.json["splits"] == ["tallrec_movie"] and called.json["counts"]["items"] == 771
    said = call(capsys, "data", "published", "tallrec_movie", bench_data / "tallrec_movie", "--out", out)
    assert said.status == 0 and "30 users, 771 items, 267 events" in said.out and "splits: tallrec_movie" in said.out
    assert_one_sentence(
        call(capsys, "data", "published", "tallrec", tmp_path, "--out", out), "no published set 'tallrec'"
    )
    wrong = call(capsys, "data", "published", "collm_ml1m", bench_data / "tallrec_movie", "--out", out)
    assert_one_sentence(wrong, "items.jsonl.gz")
    assert (out / "splits" / "tallrec_movie" / "test.parquet").is_file()
