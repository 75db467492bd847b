"""`Recommender.converse`: conversations with a real run, and with a recommender made in memory."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import llmrec
from llmrec.baselines.popularity import Popularity
from llmrec.conversation.session import Session
from llmrec.conversation.state import ChatState
from llmrec.data.folder import load_data
from llmrec.explain.reasons import reasons
from llmrec.prompting.templates import load_prompt
from llmrec.recommender import Recommender
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import Steering

FARGO, TOY_STORY = "100", "1"


@pytest.fixture(scope="module")
def recommender(tiny_run) -> Recommender:
    return llmrec.Recommender.from_pretrained(tiny_run)


@pytest.fixture(scope="module")
def popular(movielens) -> Recommender:
    data = load_data(movielens)
    return Recommender(Popularity().fit(data.interactions), data.catalog)


def session(**state) -> Session:
    return Session(ChatState.from_json(state))


def test_a_list_is_that_of_recommend_with_all_that_was_wished(recommender):
    wished = session(
        liked=[FARGO], disliked=[TOY_STORY], seen=["50"], without=["Star Trek"], where=["year>=1990"], count=5,
        prefer=["genres+=Comedy", "genres-=War"],
    )  # fmt: skip
    reply = recommender.converse(wished, "more")
    trek = [recommender.catalog.item_id(item) for item in recommender.reader.search.with_words("star trek")]
    steering = Steering((TOY_STORY,), (Condition.parse("genres=Comedy"),), (Condition.parse("genres=War"),))
    expected = recommender.recommend([FARGO], 5, where="year>=1990", exclude=["50", *trek], steering=steering)
    assert [(one.item_id, one.score) for one in reply.listed] == [(one.item_id, one.score) for one in expected]
    told = reasons(recommender, [FARGO], [one.item_id for one in expected], steering=steering)
    assert [one.reason for one in reply.listed] == [one.text for one in told] and all(
        one.text in reply.text for one in told
    )
    plain = recommender.recommend([FARGO], 5, where="year>=1990", exclude=["50", TOY_STORY, *trek])
    assert [one.item_id for one in plain] != [one.item_id for one in expected], "the wishes lean on the list"


def test_wishes_of_a_new_user_give_a_list(recommender, popular):
    for one in (recommender, popular):
        reply = one.converse(Session(), "/where year>=1990; year<=1999; genres=Comedy")
        assert reply.understood == "year 1990 to 1999, Comedy" and len(reply.listed) == 10 and not reply.state.liked
        items = one.catalog.index([listed.item_id for listed in reply.listed]).tolist()
        assert all("Comedy" in one.catalog.text(item, "genres") for item in items)
        (reason,) = {listed.reason for listed in reply.listed}
        assert reply.text.count(reason) == 1, "what is so of all is said once"


def test_a_recommender_without_vectors_of_items_says_that_it_cannot_surprise(popular):
    wished = session(liked=[FARGO], disliked=[TOY_STORY], surprise=True, prefer=["genres+=Comedy"])
    reply = popular.converse(wished, "more")
    assert "has no vectors of the items, so it cannot surprise" in reply.text and len(reply.listed) == 10
    assert TOY_STORY not in {one.item_id for one in reply.listed}


def test_wishes_in_words_reach_a_prompt_that_has_a_place_for_them(tiny_run):
    recommender = llmrec.Recommender.from_pretrained(tiny_run)
    plain = recommender.converse(session(liked=[FARGO], where=["year>=1990"]), "more")
    assert plain.listed and not recommender.reader.takes_instruction
    asking = llmrec.Recommender.from_pretrained(tiny_run)
    asking.ranker.model.encoder.prompt = load_prompt("align/query_to_item")
    wished = session(liked=[FARGO], where=["year>=1990"])
    wished.instruction = "for tonight"
    reply = asking.converse(wished, "more")
    expected = asking.recommend([FARGO], where="year>=1990", instruction="for tonight, year from 1990")
    assert [one.score for one in reply.listed] == pytest.approx([one.score for one in expected], abs=1e-5)
    other = asking.recommend([FARGO], where="year>=1990", instruction="for tonight")
    assert other[0].score != pytest.approx(expected[0].score, abs=1e-4), "the prompt has the words"
    assert asking.converse(Session(), "Fargo").listed, "a prompt that takes an instruction needs one"


def test_an_instruction_for_a_prompt_that_takes_none_is_said(recommender):
    reply = recommender.converse(Session(instruction="something light"), "Fargo")
    assert "has no {{ instruction }}" in reply.text and not reply.listed and reply.state.liked == (FARGO,)


def test_what_is_written_piece_by_piece_is_the_beginning_of_the_reply(recommender, tiny_model):
    pieces, waits = [], []
    talk = session(liked=[FARGO])
    reply = recommender.converse(
        talk, "? is it good", language_model=tiny_model, on_text=pieces.append, on_wait=waits.append
    )
    assert len(pieces) > 1 and reply.text.startswith("".join(pieces)) and " says, in its own words: " in pieces[0]
    assert waits == ["Loading the language model that explains, answers and reads, once ..."]
    assert recommender.converse(talk, "? is it good", language_model=tiny_model).text == reply.text
    assert talk.state == ChatState(liked=(FARGO,)) and len(talk.turns) == 4


def test_threads_talk_each_in_a_session_of_their_own(recommender):
    first = ["Fargo", "Toy Story", "not Babe"]

    def talk(title: str) -> list[str]:
        own = Session()
        return [recommender.converse(own, line).text for line in (title, "show me two horror films", "undo")]

    alone = [talk(title) for title in first]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(talk, first)) == alone


def test_whatever_breaks_a_turn_leaves_the_session_as_it_was(recommender, tiny_model):
    talk = session(liked=[FARGO])

    def interrupt(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommender.converse(talk, "? is it good", language_model=tiny_model, on_text=interrupt)
    assert talk == session(liked=[FARGO])
    assert recommender.converse(talk, "more").listed, "its locks are free"
