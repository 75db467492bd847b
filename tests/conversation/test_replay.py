"""A conversation read anew from its messages is where it was."""

import random

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


TYPED = (
    "like not no more without horror comedy funnier older the second first last from nineties 1990 before after between and or but ; , "
    "why ? undo reset forget any year surprise me ten films seen loved except only instead too also star trek batman it all of that "
    'less romantic 3 99999999 -1 /where /not genres=Comedy year>=1990 off " ( \x1b[2J \u202e is how show anything'
)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_typed_the_state_stays_sound_and_reads_back(reader, seed):
    words, titles, typed = random.Random(seed), reader.catalog.titles, TYPED.split()
    for _ in range(12):
        talk = Talk(reader)
        for _ in range(words.randint(1, 6)):
            pieces = [words.choice(titles if words.random() < 0.15 else typed) for _ in range(words.randint(1, 9))]
            reply = talk.say(" ".join(pieces))
            known = [*reply.state.liked, *reply.state.disliked, *reply.state.seen]
            assert reply.text and "\x1b" not in reply.text and "\u202e" not in reply.text, pieces
            assert len(known) == len(set(known)) and reader.catalog.contains([*known, *reply.state.shown]).all(), pieces
        assert again(reader, talk.session.turns) == talk.session
