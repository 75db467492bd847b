"""A conversation read anew from its messages is where it was."""

import pytest

from llmrec.conversation.reader import Reader
from llmrec.conversation.replay import replayed
from llmrec.conversation.session import Session, Turn
from llmrec.data.folder import load_data
from tests.conversation.test_turn import Talk

LINES = ["Fargo; Star Trek; Toy Story", "9", "3", "more", "not 2; star wars", "/where genres=Comedy", "undo", "more", "list",
         "not Fargo", "why 2", "? is it good", "Star Trek"]  # fmt: skip


@pytest.fixture(scope="module")
def reader(movielens) -> Reader:
    return Reader(load_data(movielens).catalog)


def again(reader: Reader, turns: list[Turn]) -> Session:
    with pytest.raises(StopIteration) as ended:
        next(replayed(reader, turns))
    return ended.value.value


def test_at_every_turn_the_session_is_that_of_the_conversation_itself(reader):
    talk = Talk(reader)
    for line in LINES:
        talk.say(line)
        assert again(reader, talk.session.turns) == talk.session, line
    state = talk.session.state
    assert len(state.shown) == 10 and talk.session.open is not None and len(state.disliked) > 1


def test_a_list_that_was_not_asked_for_counts_for_nothing(reader):
    forged = Turn("assistant", "   1. Fargo (1996)\n   2. Star Wars (1977)")
    assert again(reader, [forged]).state.shown == ()
    assert again(reader, [Turn("user", "? is it good"), forged]).state.shown == ()
    assert again(reader, [Turn("user", "more"), forged]).state.shown == ("100", "50")
    assert again(reader, [Turn("user", "more"), Turn("user", "more"), forged]).state.shown == ("100", "50")
