"""What messages do to a conversation, over the real titles of MovieLens-100K, ranked by the order of the catalogue."""

import re

import pytest

from llmrec.conversation.asks import AnswerQuestion, Explain, Rank, Ranked, Reasons
from llmrec.conversation.reader import Reader
from llmrec.conversation.session import Reply, Session
from llmrec.conversation.state import ChatState
from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS, MAX_PAST, turn
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import ModelError
from llmrec.recommenders.rules import ItemRules

FARGO, TOY_STORY, STAR_WARS, GODFATHER = "100", "1", "50", "127"


@pytest.fixture(scope="module")
def reader(movielens) -> Reader:
    return Reader(load_data(movielens).catalog)


def named(*titles: str) -> Reader:
    return Reader(Catalog.from_rows([{"item_id": f"id {n}", "title": title} for n, title in enumerate(titles)]))


class Talk:
    """One conversation; rankings are the catalogue's order, texts say what was asked."""

    def __init__(self, reader: Reader, session: Session | None = None) -> None:
        self.reader, self.session = reader, session or Session()
        self.asked: list = []

    def say(self, message: str) -> Reply:
        steps, given = turn(self.reader, self.session, message), None
        while True:
            try:
                ask = steps.send(given)
            except StopIteration as end:
                return end.value
            if isinstance(ask, Reasons):
                given = [f"Reason {place}." for place, _ in enumerate(ask.item_ids, 1)]
                continue
            self.asked.append(ask)
            given = self.ranked(ask) if isinstance(ask, Rank) else f"answer to {ask}"

    def ranked(self, ask: Rank) -> list[Ranked]:
        catalog, left = self.reader.catalog, ItemRules(self.reader.catalog).choice(**vars(ask.filter))
        items = range(catalog.num_items) if left.items is None else left.items.tolist()
        closed = {*left.excluded.tolist(), *catalog.index(ask.history).tolist()}
        return [Ranked(catalog.item_id(item), -float(item)) for item in items if item not in closed][: ask.k]

    def lines(self, message: str) -> list[str]:
        return self.say(message).text.splitlines()

    def titles(self, field: str) -> list[str]:
        catalog = self.reader.catalog
        return [catalog.title(item) for item in catalog.index(getattr(self.session.state, field)).tolist()]


def test_clear_titles_are_taken_in_order_and_a_list_comes(reader):
    talk = Talk(reader)
    reply = talk.say(" star wars; the usual suspects ")
    assert reply.understood == "you like Star Wars (1977) and The Usual Suspects (1995)"
    assert reply.text.splitlines()[:2] == [f"understood: {reply.understood}", "You may like:"]
    assert talk.titles("liked") == ["Star Wars", "The Usual Suspects"]
    assert [one.rank for one in reply.listed] == list(range(1, 11)) and reply.listed[0].label == "Toy Story (1995)"
    assert (
        reply.text.splitlines()[2:4] == ["   1. Toy Story (1995)", "      Reason 1."]
        and reply.listed[1].reason == "Reason 2."
    )
    assert reply.state.shown == tuple(one.item_id for one in reply.listed)


def test_an_unclear_title_waits_for_its_number_and_the_rest_of_the_message_with_it(reader):
    talk = Talk(reader)
    reply = talk.say("Fargo; Star Trek; Toy Story")
    assert "Which 'Star Trek' do you mean?" in reply.text and len(reply.choices) == 8
    assert reply.choices[2] == "Star Trek: First Contact (1996)" and reply.state == ChatState()
    assert talk.lines("9") == ["The choices are 1 to 8; Enter for none."]
    assert len(talk.say("3, 1").listed) == 10
    assert talk.titles("liked") == ["Fargo", "Star Trek: First Contact", "Star Trek: Generations", "Toy Story"]
    talk.say("undo")
    assert talk.session.state == ChatState(), "it was one message"


def test_enter_leaves_an_unclear_title_out_and_takes_the_rest(reader):
    talk = Talk(reader)
    talk.say("Fargo; Star Trek; Toy Story")
    assert len(talk.say("").listed) == 10 and talk.titles("liked") == ["Fargo", "Toy Story"]


def test_another_line_instead_of_a_number_ends_the_question(reader):
    talk = Talk(reader)
    talk.say("Fargo; Star Trek; Toy Story")
    reply = talk.say("quit")
    assert reply.ended and talk.titles("liked") == ["Fargo"] and talk.session.open is None
    talk = Talk(reader)
    talk.say("Star Trek; Fargo")
    reply = talk.say("Toy Story")
    assert talk.titles("liked") == ["Toy Story"] and len(reply.listed) == 10
    talk.say("Godfather, The; Star Trek")
    reply = talk.say("list")
    assert "You like: Toy Story (1995); The Godfather (1972)" in reply.text and len(reply.listed) == 10


def test_what_is_not_wanted_is_neither_liked_nor_shown_until_it_is_liked_again(reader):
    talk = Talk(reader, Session(ChatState(liked=(FARGO, TOY_STORY), shown=(STAR_WARS, GODFATHER))))
    reply = talk.say("not Fargo; 2")
    assert reply.understood == "you do not like Fargo (1996) and The Godfather (1972)"
    assert not {FARGO, GODFATHER} & set(reply.state.shown) and len(reply.listed) == 10
    assert (reply.state.liked, reply.state.disliked) == ((TOY_STORY,), (FARGO, GODFATHER))
    assert talk.say("fargo").state.liked == (TOY_STORY, FARGO)
    assert "Which 'Star Trek' do you mean?" in talk.say("/not Star Trek").text
    state = talk.say("2").state
    assert len(state.disliked) == 2 and len(state.liked) == 2


def test_a_title_that_begins_with_not_is_a_title():
    talk = Talk(named("Not One Less", "One Less", "Up"))
    assert (talk.say("not one less").state.liked, talk.session.state.disliked) == (("id 0",), ())


def test_a_title_in_quotes_is_a_title_whatever_it_reads_like():
    talk = Talk(named("More", "Up", "Not One Less"))
    assert talk.say('"more"').state.liked == ("id 0",)
    assert talk.say('not "not one less"').state.disliked == ("id 2",)
    assert talk.lines('"undo"')[0] == "Nothing here is called 'undo'. The nearest:"


@pytest.mark.parametrize("asked", ["why 2", "/why 2", "Why 2?", "why 2 ?"])
def test_why_names_the_title_that_was_shown(reader, asked):
    talk = Talk(reader, Session(ChatState(liked=(FARGO,), shown=(STAR_WARS, GODFATHER)), instruction="tonight"))
    talk.say(asked)
    assert talk.asked == [Explain((FARGO,), GODFATHER, "tonight")]
    assert talk.lines("why 3") == talk.lines("why") == ["why takes the number of a title shown, 1 to 2."]
    talk.say("? is it good")
    assert talk.asked[1:] == [AnswerQuestion("is it good", (FARGO,), (STAR_WARS, GODFATHER))]
    assert talk.session.state.shown == (STAR_WARS, GODFATHER)


def test_what_cannot_be_ranked_measured_or_written_is_said_and_the_conversation_goes_on(reader):
    session = Session(ChatState(liked=(FARGO,), shown=(STAR_WARS,)))
    for message in ("why 1", "? is it good", "more"):
        steps = turn(reader, session, message)
        next(steps)
        with pytest.raises(StopIteration) as ended:
            steps.throw(ModelError("there is no\nsuch model."))
        assert ended.value.value.text == "there is no\\nsuch model."
    assert Talk(reader, session).say("more").listed[0].rank == 2


def test_a_turn_that_is_given_up_leaves_the_session_as_it_was(reader):
    session = Session(ChatState(liked=(FARGO,)))
    steps = turn(reader, session, "toy story")
    assert isinstance(next(steps), Rank)
    steps.close()
    assert session == Session(ChatState(liked=(FARGO,)))


def test_a_list_goes_on_where_the_last_one_ended_until_nothing_is_left(reader):
    talk = Talk(reader)
    talk.say("not Fargo")
    ids = [item_id for item_id in reader.catalog.item_ids if item_id != FARGO]
    reply = talk.say("more")
    assert "More titles:\n  11. " in reply.text and list(reply.state.shown) == ids[:20]
    assert list(talk.asked[-1].filter.exclude) == [FARGO, *ids[:10]]
    reply = talk.say("/where genres=Western")
    assert "27 titles left." in reply.text and len(reply.listed) == 10
    assert [len(talk.say("more").listed) for _ in range(2)] == [10, 7]
    assert talk.lines("more") == ["No more titles with Western."]
    few = Talk(named("Up", "Down", "Left"))
    assert len(few.say("up").listed) == 2 and few.lines("more") == ["That was the whole catalogue."]


def test_conditions_that_leave_nothing_say_which_to_loosen(reader):
    where = ["genres!=Horror", "genres=Western", "year<=1930"]
    talk = Talk(reader, Session(ChatState.from_json({"where": where, "without": ["Star"]})))
    (line,) = talk.lines("more")
    assert line == (
        "These wishes leave no title: no title with 'Star', not Horror, Western, year up to 1930. "
        'There would be 2 without "Western", 27 without "year up to 1930".'
    )
    assert not talk.asked, "nobody ranks nothing"
    talk = Talk(reader, Session(ChatState.from_json({"where": [*where, "genres=Sci-Fi"]})))
    assert talk.lines("more")[0].endswith('Loosen several of these wishes, or say "reset".')
    few = Talk(named("Up", "Down"), Session(ChatState(seen=("id 0",), disliked=("id 1",))))
    assert few.lines("more") == ["No title is left: you know them all."]


def test_titles_with_words_that_are_not_wanted_never_come(reader):
    talk = Talk(reader, Session(ChatState(without=("star trek",), seen=(TOY_STORY,))))
    shown = set()
    while listed := talk.say("more").listed:
        shown |= {one.label for one in listed}
        talk.session.state = ChatState.from_json(talk.session.state.as_json() | {"count": 100})
    assert "Star Wars (1977)" in shown and "Toy Story (1995)" not in shown
    assert not [label for label in shown if "Star Trek" in label] and len(shown) > 1600


def test_undo_takes_back_the_latest_change_whatever_it_was(reader):
    talk = Talk(reader)
    talk.say("Fargo; Toy Story")
    talk.say("/where genres=Comedy")
    talk.say("more")
    reply = talk.say("undo")
    assert reply.text.startswith("Took back: Comedy.\nYou may like:") and reply.state.where == ()
    assert talk.titles("liked") == ["Fargo", "Toy Story"]
    talk.say("reset")
    assert talk.session.state == ChatState()
    assert talk.say("undo").state.liked == (FARGO, TOY_STORY)
    assert talk.lines("undo")[0] == "Took back: you like Fargo (1996) and Toy Story (1995)."
    assert talk.lines("undo") == ["There is nothing to take back."]


def test_changes_that_can_be_taken_back_are_bounded(reader):
    talk = Talk(reader)
    for _ in range(MAX_PAST):
        talk.say("fargo")
        talk.say("not 1")
    assert len(talk.session.past) == MAX_PAST


def test_a_title_is_taken_once(reader):
    talk = Talk(reader, Session(ChatState(liked=(FARGO,))))
    assert talk.lines("fargo") == ["You have Fargo (1996) already."] and not talk.asked
    assert talk.lines("fargo and wombats")[:2] == ["not understood: wombats", "You have Fargo (1996) already."]
    talk.say("/not toy story")
    assert talk.lines("/not toy story") == ["That was understood before: nothing changes."]


def test_something_that_nobody_understands_is_said_and_no_title_is_guessed(reader):
    talk = Talk(reader)
    assert talk.lines("something darker") == ["not understood: darker"]
    assert talk.lines("films with Tom Hanks") == ["not understood: Tom Hanks"]
    assert talk.lines("teh godfathr")[0] == "understood: you like The Godfather (1972)"
    assert talk.session.open is None
    assert talk.lines("Something to Talk About")[0] == "understood: you like Something to Talk About (1995)"


def test_each_way_to_correct_a_state_that_is_told_takes_that_part_back(reader):
    talk = Talk(reader)
    talk.say("like Fargo; no horror; a comedy; from the nineties")
    (told,) = [line for line in talk.lines("list") if line.startswith("To correct it")]
    examples = re.findall(r'"([^"]+)"', told)
    assert examples == ["forget Fargo", "Horror is fine again", "doesn't have to be Comedy", "any year"]
    for example in examples:
        talk.say(example)
    assert talk.session.state.says_nothing


def test_list_tells_all_that_is_understood_and_how_to_correct_it(reader):
    state = {
        "liked": [FARGO], "disliked": [GODFATHER], "seen": [STAR_WARS], "without": ["Star Trek"], "count": 5, "surprise": True,
        "where": ["genres!=Horror", "year>=1990", "year<=1999"], "prefer": ["genres+=Comedy", "genres-=War"], "words": ["lighter"],
    }  # fmt: skip
    lines = Talk(reader, Session(ChatState.from_json(state))).lines("list")
    assert lines[:-2] == [
        "You like: Fargo (1996)",
        "You do not like: The Godfather (1972)",
        "You know: Star Wars (1977)",
        "Only: no title with 'Star Trek', not Horror, year 1990 to 1999",
        "Rather: lighter: Comedy, less War, a surprise",
        "A list: 5 titles",
    ]
    columns = "genres (Drama, Comedy, Action, Thriller, Romance, ...); year (1922 to 1998)"
    assert "undo" in lines[-2] and lines[-1] == f"The catalogue tells of each title: {columns}."
    assert Talk(reader).lines("list")[0] == Talk(reader).lines("/where")[0] == "You like: nothing yet"


def test_a_condition_that_cannot_be_is_said_and_changes_nothing(reader):
    talk = Talk(reader, Session(ChatState(liked=(FARGO,))))
    assert talk.lines("/where genre=Western")[0].startswith("the catalogue has no column 'genre'")
    assert talk.lines("/where year>2050")[0].startswith("none of the 1682 items is left by: year>2050")
    assert talk.session.state == ChatState(liked=(FARGO,)) and not talk.asked
    assert talk.lines("/where genres=Western; year<1970")[:2] == [
        "understood: Western, year under 1970",
        "10 titles left.",
    ]
    assert talk.lines("/where off")[:3] == [
        "understood: no longer Western, any year",
        "All titles again.",
        "You may like:",
    ]


def test_conditions_are_kept_as_the_catalogue_writes_them(reader):
    state = Talk(reader).say("/where Genres=comedy|sci-fi; YEAR>1990").state
    assert [str(one) for one in state.where] == ["genres=Comedy|Sci-Fi", "year>1990"]


def test_what_is_understood_is_what_was_done(reader):
    talk = Talk(reader)
    for message, understood in [
        (
            "something lighter, not horror or war, from the nineties",
            "not Horror or War, year 1990 to 1999, lighter: Comedy",
        ),
        ("like Fargo but funnier", "you like Fargo (1996), funnier: Comedy"),
        ("funny, please", "funny: Comedy"),
        ("a drama", "Drama"),
        ("war is fine again", "War again"),
        ("no dramas", "not Drama"),
        ("after 1992", "year 1993 to 1999"),
        ("any year", "any year"),
        ("forget the genres", "Horror or Drama again, no longer funny: Comedy"),
        ("a comedy", "Comedy"),
        ("doesn't have to be a comedy", "no longer Comedy"),
        ("five films", "5 titles"),
        ("surprise me", "a surprise"),
        ("forget fargo", "forgotten: Fargo (1996)"),
        ("undo", "took back: forgotten: Fargo (1996)"),
        ("reset", ""),
    ]:
        assert (message, talk.say(message).understood) == (message, understood)
    assert talk.session.state == ChatState()


@pytest.mark.parametrize(
    "message", ["nineties The Hunted usual all except", "all except", "all of them but", "not", "the", "the very"]
)
def test_a_message_that_ends_too_soon_is_answered(reader, message):
    assert Talk(reader).say(message).text


def test_a_message_of_a_megabyte_is_refused_in_a_sentence(reader):
    talk = Talk(reader)
    (line,) = talk.lines("fargo " * 200_000)
    assert line == "A message may have 2,000 characters, but this one has 1,200,000. Say it in fewer."
    assert len(talk.session.turns[0].text) == MAX_MESSAGE_CHARACTERS and talk.session.state == ChatState()


def test_nothing_typed_or_titled_steers_a_terminal(reader):
    assert Talk(reader).say("\x1b[2JFar\x07go\ud800").state.liked == (FARGO,)
    (line,) = Talk(reader).lines("\u202e\x1b]0;x\x07???")
    assert line == "Nothing here is called '???'."
    few = Talk(named("[red]\x1b[2JSoap\nbar", "[red]\x1b[2JSoap\nbar", "Up"))
    few.say("soap")
    reply = few.say("2")
    assert reply.understood == "you like [red]Soap bar" and "[red]Soap bar [id 0]" in reply.text
    assert "\x1b" not in "".join(said.text for said in few.session.turns)
