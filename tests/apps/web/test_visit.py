"""Actions as anybody may send them, and what they make of a visit; the tree of beams, exactly."""

import math

import numpy as np
import pytest

from llmrec.apps.web import visit as visit_module
from llmrec.apps.web.inside import look_inside
from llmrec.apps.web.panels import found_titles
from llmrec.apps.web.pictures import title_card
from llmrec.apps.web.visit import MAX_TITLES, MAX_TURNS, Visit, act, give_reasons, needs_reasons
from llmrec.errors import ConfigError
from llmrec.recommenders.filters import Filter


def leaves(node):
    return [node] if not node.children else [leaf for child in node.children for leaf in leaves(child)]


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"do": "fly"},
        {"do": 7},
        {"do": "like"},
        {"do": "like", "id": "no such id"},
        {"do": "like", "id": ["50"]},
        {"do": "value", "column": "genres", "value": "no such genre"},
        {"do": "value", "column": "title", "value": "Fargo"},
        {"do": "bounds", "column": "year", "low": "nan", "high": ""},
        {"do": "bounds", "column": "year", "low": "1999", "high": "1990"},
        {"do": "bounds", "column": "year", "low": "soon", "high": ""},
        {"do": "count", "value": "1000000"},
        {"do": "count", "value": "many"},
        {"do": "diversity", "value": "mmr:9"},
        {"do": "undo"},
        {"do": "undo", "number": "one"},
    ],
    ids=str,
)
def test_an_action_that_cannot_be_is_one_sentence_and_changes_nothing(two_runs, action):
    visit = Visit()
    act(two_runs, visit, {"number": "1", **action})
    assert visit.problem.endswith((".", "?")) and visit.state.says_nothing
    assert len(visit.lists[0].listed) == 10  # the page has its list all the same


def test_what_is_kept_of_a_visit_is_bounded(two_runs):
    visit = Visit()
    for item_id in two_runs.catalog.item_ids[: MAX_TITLES + 1]:
        act(two_runs, visit, {"number": "1", "do": "seen", "id": item_id}) if len(visit.state.seen) < 2 else None
    visit.session.state = type(visit.state)(seen=tuple(two_runs.catalog.item_ids[:MAX_TITLES]))
    act(two_runs, visit, {"number": "1", "do": "seen", "id": two_runs.catalog.item_id(MAX_TITLES)})
    assert len(visit.state.seen) == MAX_TITLES and "Remove some first" in visit.problem
    for _ in range(MAX_TURNS):
        act(two_runs, visit, {"number": "1", "do": "say", "text": "help"})
    assert len(visit.talk) == len(visit.session.turns) == MAX_TURNS
    act(two_runs, visit, {"number": "1", "do": "say", "text": "x" * 5_000})
    assert "may have 2,000 characters" in visit.talk[-1].text


def test_what_is_said_beside_a_list_leaves_the_list_to_the_cards(two_runs):
    visit = Visit()
    act(two_runs, visit, {"number": "1", "do": "say", "text": "Fargo"})
    assert visit.talk[-1].text == "understood: you like Fargo (1996)\nYou may like: 10 on the cards."
    act(two_runs, visit, {"number": "2", "do": "say", "text": "more"})
    assert visit.talk[-1].text == "More titles: 10 on the cards." and visit.lists[0].listed[0].rank == 11


def test_reasons_of_a_list_that_has_changed_meanwhile_are_dropped(two_runs, monkeypatch):
    visit = Visit()
    act(two_runs, visit, {"number": "1", "do": "like", "id": "50"})
    measured = visit_module.reasons

    def slow(*asked, **more):
        act(two_runs, visit, {"number": "1", "do": "like", "id": "100"})
        return measured(*asked, **more)

    monkeypatch.setattr(visit_module, "reasons", slow)
    assert not give_reasons(visit) and needs_reasons(visit) and visit.state.liked == ("50", "100")
    monkeypatch.undo()
    assert give_reasons(visit) and not needs_reasons(visit)


@pytest.mark.parametrize("place", [0, 1], ids=["one token", "semantic ids"])
def test_the_leaves_of_the_tree_have_the_recommender_s_own_probabilities(two_runs, place):
    run, history = two_runs.runs[place], ("50", "100", "181")
    allowed = Filter(where=["genres!=Horror"], exclude=["1"])
    inside = look_inside(run, history, 10, allowed)
    listed = run.recommender.recommend(history, 10, where=allowed.where, exclude=allowed.exclude)
    kept = [leaf for leaf in leaves(inside.root) if leaf.is_kept]
    assert sorted(leaf.log_prob for leaf in kept) == pytest.approx(sorted(one.score for one in listed), abs=1e-5)
    scores = run.recommender.score(history, [one.item_id for one in listed])
    assert sorted(leaf.log_prob for leaf in kept) == pytest.approx(sorted(scores), abs=1e-4)
    assert {leaf.title for leaf in kept} == {
        run.recommender.catalog.title(int(run.recommender.catalog.index([one.item_id])[0])) for one in listed
    }


def test_a_branch_is_at_least_as_likely_as_all_that_grows_from_it(two_runs):
    root = look_inside(two_runs.runs[1], ("50",), 10, Filter()).root

    def check(node):
        below = math.fsum(math.exp(child.log_prob) for child in node.children)
        assert not node.children or below <= math.exp(node.log_prob) * (1 + 1e-4)
        for child in node.children:
            check(child)

    check(root)
    assert sum(len(child.children) for child in root.children) > 3


def test_the_prompt_s_pieces_are_the_whole_prompt(two_runs):
    for run in two_runs.runs:
        inside, model = look_inside(run, ("50", "100"), 3, Filter()), run.recommender.ranker.model
        instruction = "" if "instruction" in model.encoder.prompt.variables else None
        items = run.recommender.catalog.index(["50", "100"])
        assert sum(piece.num_tokens for piece in inside.prompt) == len(model.encoder.encode(items, instruction))
        assert [piece.title for piece in inside.prompt if piece.title] == ["Star Wars", "Fargo"]


def test_rules_say_how_many_titles_they_keep_out(two_runs):
    inside = look_inside(two_runs.runs[0], ("50", "100"), 3, Filter(where=["genres=Horror"], exclude=["1", "2", "100"]))
    counts = {str(one.rule): one.num_items for one in inside.removed}
    assert counts == {"liked already": 2, "kept out by name": 3, "genres=Horror": 1682 - 92}
    assert inside.num_left == 92


def test_the_search_box_finds_what_the_conversation_finds(two_runs):
    found = found_titles(two_runs, "star tre")
    assert len(found) == 8 and all(one["title"].startswith("Star Trek") for one in found)
    assert found[0].keys() == {"id", "title", "meta", "picture"}
    assert found_titles(two_runs, "?!") == []


def test_two_runs_of_different_catalogues_are_refused(two_runs, odd_shelf):
    from llmrec.apps.web.runs import Shelf

    with pytest.raises(ConfigError, match=r"need one catalogue, but \S+ has 1,682 items and odd has 8"):
        Shelf((two_runs.runs[0], odd_shelf.runs[0]))


def test_a_drawn_card_is_whole_xml_whatever_the_title():
    from xml.etree import ElementTree

    rng = np.random.default_rng(0)
    for title in [
        "",
        "<&\"'>",
        "\x00\x1b[31m\ud800",
        "日本" * 90,
        *("".join(map(chr, rng.integers(1, 0x3000, 60))) for _ in range(50)),
    ]:
        svg = title_card(title, title[:30]).encode()
        assert ElementTree.fromstring(svg).get("width") == "320" and b"<script" not in svg
