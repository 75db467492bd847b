"""How many of eval/phrasings the rules read exactly right, and that the comparison with a line's state is strict."""

import json

import phrasings
import pytest

from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState
from llmrec.data.folder import load_data


@pytest.fixture(scope="module")
def catalogs(movielens) -> dict:
    return {"films": load_data(movielens).catalog, "products": phrasings.products()}


def test_states_are_compared_without_the_order_of_conditions_and_with_bounds_of_whole_numbers_as_one(catalogs):
    films = Facets(catalogs["films"])
    state = ChatState.from_json(
        {"where": ["genres=Comedy|Drama", "year>=1990"], "disliked": ["1", "2"], "shown": ["5"]}
    )
    same = ChatState.from_json({"where": ["year>1989", "genres=Drama|Comedy"], "disliked": ["2", "1"]})
    assert phrasings.canonical(state, films) == phrasings.canonical(same, films)
    for other in ({"where": ["year>=1990", "genres=Drama"]}, {"where": ["year>=1991"]}, {"liked": ["1"]}, {"count": 5}):
        assert phrasings.canonical(ChatState.from_json(other), films) != phrasings.canonical(same, films)
    liked = [ChatState.from_json({"liked": ids}) for ids in (["1", "2"], ["2", "1"])]
    assert phrasings.canonical(liked[0], films) != phrasings.canonical(liked[1], films)
    shop = Facets(catalogs["products"])
    prices = [ChatState.from_json({"where": [text]}) for text in ("price<20", "price<=20")]
    assert phrasings.canonical(prices[0], shop) != phrasings.canonical(prices[1], shop)


def test_a_share_has_wilsons_interval():
    low, high = phrasings.wilson(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
    assert phrasings.wilson(0, 10)[0] == 0 and phrasings.wilson(10, 10)[1] == 1


@pytest.mark.parametrize(("half", "least"), [("open", 0.9), ("closed", 0.8)])
def test_the_rules_read_both_halves_of_the_phrasings(half, least, catalogs):
    found = phrasings.measured(half, "rules", catalogs)
    rows = {row["lines"]: row for row in phrasings.groups(found)}
    assert rows["all"]["of"] == 100
    for name in ("films", "products"):
        assert rows[name]["right"] >= least * rows[name]["of"], (half, name, rows[name]["right"])  # never the lines


def test_messages_of_the_closed_half_are_never_printed(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        phrasings.main(["--films", str(tmp_path), "--half", "closed", "--show"])
    assert stopped.value.code == 2 and "never printed" in capsys.readouterr().err


def test_results_of_one_reader_and_half_are_written_beside_others(movielens, tmp_path, capsys):
    path = tmp_path / "phrasings.json"
    phrasings.written(path, "closed", "model", [{"lines": "all", "right": 1}])
    for _ in range(2):
        assert phrasings.main(["--films", str(movielens), "--write", str(path)]) == 0
    found = json.loads(path.read_text())["results"]
    assert [(one["half"], one["reader"]) for one in found] == [("open", "rules"), ("closed", "model")]
    assert found[0]["commit"] and [row["lines"] for row in found[0]["rows"]] == [
        "all",
        "films",
        "products",
        *phrasings.MARKS,
    ]
    assert "0.9" in capsys.readouterr().out
