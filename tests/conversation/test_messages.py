"""What messages mean, over the real titles of MovieLens-100K, ranked by nobody."""

import pytest

from llmrec.conversation.messages import AnswerQuestion, Explain, Leave, MessageReader, Recommend, Say
from llmrec.conversation.state import ChatState
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.recommenders.rules import ItemRules


@pytest.fixture(scope="module")
def reader(movielens) -> MessageReader:
    catalog = load_data(movielens).catalog
    return MessageReader(catalog, ItemRules(catalog))


def named(*titles: str) -> MessageReader:
    catalog = Catalog.from_rows([{"item_id": f"id {n}", "title": title} for n, title in enumerate(titles)])
    return MessageReader(catalog, ItemRules(catalog))


def said(steps: list) -> list[str]:
    return [line for step in steps if isinstance(step, Say) for line in step.text.splitlines()]


def test_clear_titles_are_taken_in_order_and_a_list_is_wanted(reader):
    state = ChatState()
    steps = list(reader.read(" star wars; the usual suspects ", state))
    assert said(steps) == ["You liked: Star Wars (1977); The Usual Suspects (1995)"] and steps[-1] == Recommend()
    assert [reader.catalog.title(item) for item in state.liked] == ["Star Wars", "The Usual Suspects"]


def test_an_unclear_title_waits_for_its_number_and_the_rest_of_the_message_with_it(reader):
    state = ChatState()
    assert "Which 'Star Trek' do you mean?" in said(list(reader.read("Fargo; Star Trek; Toy Story", state)))
    assert state.open.rest == ["Toy Story"] and len(state.open.offered) == 8
    assert list(reader.read("9", state)) == [Say("The choices are 1 to 8; Enter for none.")]
    assert list(reader.read("3, 1", state))[-1] == Recommend()
    titles = [reader.catalog.title(item) for item in state.liked]
    assert titles == ["Fargo", "Star Trek: First Contact", "Star Trek: Generations", "Toy Story"]


def test_another_line_instead_of_a_number_ends_the_question(reader):
    state = ChatState()
    list(reader.read("Fargo; Star Trek; Toy Story", state))
    steps = list(reader.read("quit", state))
    assert steps[-2:] == [Recommend(), Leave()] and [reader.catalog.title(item) for item in state.liked] == ["Fargo"]


def test_what_is_not_wanted_is_neither_liked_nor_shown_until_it_is_liked_again(reader):
    state = ChatState()
    list(reader.read("Fargo; Toy Story", state))
    reader.list_shown(state, ["50", "127"])
    steps = list(reader.read("not Fargo; 2", state))
    assert said(steps) == ["You liked: Toy Story (1995)", "Not wanted: The Godfather (1972); Fargo (1996)"]
    assert steps[-1] == Recommend() and state.shown == []
    assert [reader.catalog.item_id(item) for item in state.unwanted] == ["127", "100"]
    list(reader.read("fargo", state))
    assert [reader.catalog.item_id(item) for item in state.liked] == ["1", "100"]
    list(reader.read("not Star Trek", state))
    list(reader.read("2", state))
    assert len(state.unwanted) == 2 and len(state.liked) == 2


def test_a_title_that_begins_with_not_is_a_title():
    few = named("Not One Less", "One Less", "Up")
    state = ChatState()
    list(few.read("not one less", state))
    assert state.liked == [0] and state.unwanted == []


@pytest.mark.parametrize("asked", ["why 2", "/why 2", "Why 2?", "why 2 ?"])
def test_why_names_the_title_that_was_shown(reader, asked):
    state = ChatState()
    list(reader.read("Fargo", state))
    reader.list_shown(state, ["50", "127"])
    assert list(reader.read(asked, state)) == [Explain("127")]
    assert list(reader.read("why 3", state)) == [Say("why takes the number of a title shown, 1 to 2.")]
    assert list(reader.read("? is it good", state)) == [AnswerQuestion("is it good")]


def test_a_list_goes_on_where_the_last_one_ended_until_nothing_is_left(reader):
    state, western = ChatState(), ["genres=Western"]
    list(reader.read("not Fargo", state))
    ids = reader.catalog.item_ids
    reader.list_shown(state, ids[:10])
    assert reader.left(state).exclude == ["100", *ids[:10]]
    assert reader.list_shown(state, ids[10:30]).startswith("More titles:\n  11. ") and state.shown == ids[:20]
    assert reader.list_shown(state, []) == "That was the whole catalogue."
    list(reader.read("/where genres=Western", state))
    assert reader.left(state).where == western and reader.left(state).exclude == ["100"]
    reader.list_shown(state, [reader.catalog.item_id(item) for item in reader.rules.choice(where=western).items])
    assert reader.left(state) is not None, "a list has ten titles at most"
    state.shown = [reader.catalog.item_id(item) for item in reader.rules.choice(where=western).items]
    assert reader.left(state) is None and reader.list_shown(state, []) == "No more titles with genres=Western."


def test_a_list_reads_back_as_the_items_that_it_shows(reader):
    ids = reader.catalog.item_ids
    for start in range(0, len(ids), 10):
        wanted = ids[start : start + 10]
        assert reader.shown_in(f"Hello\n{reader.list_shown(ChatState(), wanted, with_ids=True)}\n") == wanted


def test_titles_that_look_alike_or_like_a_list_read_back_by_their_ids():
    titles = ["Soap", "Soap", "Soap (1990)", "???", "Up [id 0]", "1. Up", "\x1b[2JRed\nHeat", "Up", "SOAP"]
    few = named(*titles)
    ids = few.catalog.item_ids
    text = few.list_shown(ChatState(), ids, with_ids=True)
    assert few.shown_in(text) == ids, text


def test_a_text_that_lists_no_items_shows_none(reader):
    forged = "1. Nothing at all\n2. [5]\n3. Fargo [50]\n4) Fargo (1996)\n 5. Ignore this [no such id]\n" + "9" * 4000
    assert reader.shown_in(forged) == []
