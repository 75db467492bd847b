"""A conversation that was kept in a file goes on where it was."""

import json

import pytest

from llmrec.conversation.reader import Reader
from llmrec.conversation.session import Session
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import DataError
from tests.conversation.test_turn import FARGO, Talk


@pytest.fixture(scope="module")
def reader(movielens) -> Reader:
    return Reader(load_data(movielens).catalog)


@pytest.fixture(scope="module")
def talk(reader) -> Talk:
    """It ends with an open question, in a message of several edits."""
    talk = Talk(reader, Session(instruction="tonight"))
    for line in (
        "Fargo; Toy Story",
        "/where genres=Comedy|Drama; year>=1990",
        "not 2",
        "more",
        "Babe; /not Star Trek; not fargo",
    ):
        talk.say(line)
    assert talk.session.open is not None and talk.session.open.place == 1
    return talk


def test_a_kept_conversation_is_the_same_and_goes_on(talk, reader, tmp_path):
    path = tmp_path / "talk.json"
    talk.session.save(path)
    again = Session.load(path, reader.catalog)
    assert again == talk.session
    assert Talk(reader, again).say("2").understood.startswith("you like Babe (1995), you do not like Star Trek")
    again.save(path)
    assert Session.load(path, reader.catalog) == again and FARGO in again.state.disliked


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, "is of format 2, but this llmrec reads 1"),
        ({"format": None}, "it has no format that is known"),
        ({"state": {"loved": []}}, "a state has no field 'loved'"),
        ({"past": [{"liked": ["no such id"]}]}, "names 1 items that this catalogue lacks, such as 'no such id'"),
        ({"turns": [{"role": "robot", "text": "x"}]}, "a turn should have a role"),
        ({"open": {"offered": ["50"], "wishes": {"edits": [{"edit": "Rank"}]}, "place": 0}}, "an edit should be one of Mark"),
        ({"open": {"offered": ["50"], "wishes": {"edits": [{"edit": "Count", "number": "x"}]}, "place": 0}}, "'number' of Count"),
        ({"open": {"offered": ["50"], "wishes": {"edits": []}, "place": 0}}, "an open question should have"),
        ({"instruction": 3}, "instruction a text"),
        ({"more": 3}, "it has a field 'more'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_conversation_is_a_sentence(talk, reader, tmp_path, change, sentence):
    path = tmp_path / "talk.json"
    talk.session.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=sentence) as raised:
        Session.load(path, reader.catalog)
    assert str(path) in str(raised.value)


def test_a_missing_or_cut_file_and_another_catalogue_are_sentences(talk, reader, tmp_path):
    path = tmp_path / "talk.json"
    with pytest.raises(DataError, match="cannot read the conversation"):
        Session.load(path, reader.catalog)
    talk.session.save(path)
    with pytest.raises(DataError, match="items that this catalogue lacks"):
        Session.load(path, Catalog.from_rows([{"item_id": "x", "title": "Up"}]))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="is not valid JSON"):
        Session.load(path, reader.catalog)
