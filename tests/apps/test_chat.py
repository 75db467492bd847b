"""The chat in lines: in process with popularity for a model, through a pipe with a real one."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from llmrec.apps.chat import FILES_HELP, Chat
from llmrec.apps.chat_lines import Lines
from llmrec.apps.screen import NO_END, Screen
from llmrec.baselines.popularity import Popularity
from llmrec.conversation.commands import HELP
from llmrec.conversation.session import Session
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.interactions import Interactions
from llmrec.recommender import Recommender
from llmrec.text_models.open_model import open_text_model
from llmrec.text_models.protocol import TextModel
from llmrec.text_models.settings import TextModelSettings
from tests.apps.calling import assert_one_sentence, call, call_alone
from tests.enrich.serving import ChatServer, Reply, question


@pytest.fixture(scope="module")
def popular(movielens) -> Recommender:
    """Always recommends the most watched films that were not named."""
    data = load_data(movielens)
    return Recommender(Popularity().fit(data.interactions), data.catalog)


def talk(
    recommender: Recommender,
    *lines: str,
    language_model: str | TextModelSettings | TextModel | None = None,
    session: Session | None = None,
) -> list[str]:
    """What the chat says to these lines, the greeting left out."""
    shown, typed = io.StringIO(), io.StringIO("".join(f"{line}\n" for line in lines))
    front = Lines(Screen(Console(file=shown, width=NO_END, highlight=False)), typed)
    Chat(recommender, session or Session(), front, language_model).talk()
    assert typed.read() == "", "every line is read"
    return shown.getvalue().splitlines()[1:]


def popularity(num_items: int) -> Popularity:
    """Fitted on one user who met item 0."""
    return Popularity().fit(Interactions(np.array([0, 1]), np.array([0], np.int32), num_items))


def titles(said: list[str]) -> list[str]:
    """The recommended titles, numbers left out."""
    return [line.split(". ", 1)[1] for line in said if re.match(r" *\d+\. ", line)]


def test_titles_are_answered_with_ten_others(popular):
    said = talk(popular, "star wars; the usual suspects")
    assert "understood: you like Star Wars (1977) and The Usual Suspects (1995)" in said
    assert len(titles(said)) == 10 and titles(said)[0] == "Contact (1997)"
    assert not {"Star Wars (1977)", "The Usual Suspects (1995)"} & set(titles(said))


def test_an_unclear_title_is_asked_back_and_answered_by_numbers(popular):
    said = talk(popular, "Star Trek", "99", "3, 1")
    assert "Which 'Star Trek' do you mean?" in said and "  3) Star Trek: First Contact (1996)" in said
    assert "The choices are 1 to 8; Enter for none." in said
    assert "understood: you like Star Trek: First Contact (1996) and Star Trek: Generations (1994)" in said


def test_no_answer_adds_nothing_and_another_title_is_taken_instead(popular):
    assert "You like: nothing yet" in talk(popular, "Star Trek", "", "list")
    assert "You like: Toy Story (1995)" in talk(popular, "Star Trek; Fargo", "Toy Story", "list")


def test_what_was_clear_before_an_unclear_title_is_kept(popular):
    said = talk(popular, "Fargo; Star Trek", "list", "quit")
    assert "understood: you like Fargo (1996)" in said and len(titles(said)) == 10 and said[-1] == "Goodbye."


def test_an_unknown_title_brings_the_nearest_to_choose_from(popular):
    said = talk(popular, "star trk", "1", "???")
    assert "Nothing here is called 'star trk'. The nearest:" in said
    assert "understood: you like Star Trek: First Contact (1996)" in said
    assert said[-1] == "Nothing here is called '???'."


def test_more_goes_down_the_list_without_repeating_until_all_was_shown(popular):
    said = talk(popular, "Fargo", "more", "more")
    assert len(titles(said)) == len(set(titles(said))) == 30
    few = Catalog.from_rows([{"item_id": str(n), "title": f"Film number {n}"} for n in range(12)])
    said = talk(Recommender(popularity(12), few), "film number 3", "more", "more")
    assert len(titles(said)) == 11 and said[-1] == "That was the whole catalogue."


def test_filters_hold_until_they_are_lifted(popular):
    said = talk(popular, "Fargo", "/where genres=Western; year<1970", "more", "/where", "/where off")
    catalog = popular.catalog
    westerns = popular.rules.choice(where=["genres=Western", "year<1970"]).items.tolist()
    assert f"{len(westerns)} titles left." in said and len(westerns) > 0
    shown = titles(said)[10 : 10 + len(westerns)]
    assert sorted(shown) == sorted(f"{catalog.title(item)} ({catalog.text(item, 'year')})" for item in westerns)
    assert "No more titles with Western, year under 1970." in said
    assert "Only: Western, year under 1970" in said and any(
        line.startswith("The catalogue tells of each title: genres (Drama,") for line in said
    )
    assert "All titles again." in said and titles(said)[-10:] == titles(said)[:10]


def test_a_filter_that_cannot_be_is_said_and_changes_nothing(popular):
    said = talk(popular, "/where genre=Western", "/where genres=Western", "/where year>2050", "Fargo")
    assert said[0].startswith("the catalogue has no column 'genre'") and "27 titles left." in said
    assert sum(line.startswith("none of the 1682 items is left by: year>2050") for line in said) == 1
    assert "Unforgiven (1992)" in titles(said)


def test_undo_and_reset_take_back(popular):
    said = talk(
        popular, "Fargo", "Toy Story", "/where genres=Comedy", "undo", "undo", "list", "undo", "undo", "reset", "list"
    )
    assert [line.removeprefix("Took back: ").rstrip(".") for line in said if line.startswith("Took back: ")] == [
        "Comedy",
        "you like Toy Story (1995)",
        "you like Fargo (1996)",
    ]
    assert "There is nothing to take back." in said
    assert "You like: nothing yet" in said[said.index("There is nothing to take back.") :]


def test_a_title_is_taken_once(popular):
    said = talk(popular, "Fargo", "fargo")
    assert said[-1] == "You have Fargo (1996) already." and len(titles(said)) == 10


def test_help_names_every_command(popular):
    assert talk(popular, "help") == talk(popular, "/help") == [*HELP.splitlines(), *FILES_HELP.splitlines(), Lines.help]
    assert talk(popular, "Fargo", "/reset", "/quit") == talk(popular, "Fargo", "reset", "quit")
    for word in ("undo", "list", "reset", "more", "quit", "why", "ask"):
        assert word in HELP


def test_a_word_in_quotes_is_a_title(popular):
    assert not titles(talk(popular, '"undo"')) and "Nothing here is called" in talk(popular, '"undo"')[0]


def test_titles_cannot_steer_the_terminal_and_equal_ones_show_their_ids():
    rows = [{"item_id": c, "title": "[red]\x1b[2JSoap\nbar"} for c in "ab"]
    said = talk(Recommender(popularity(2), Catalog.from_rows(rows)), "soap", "2")
    assert "  2) [red]Soap bar [b]" in said and "understood: you like [red]Soap bar" in said
    assert not any("\x1b" in line for line in said)


def test_why_shows_what_was_measured_of_the_title_with_that_number(popular, tiny_model):
    said = talk(popular, "Fargo; Star Wars", "more", "why 12", language_model=tiny_model)
    twelfth = popular.recommend(["100", "50"], 20)[11]
    at = said.index("Measured by the recommender:")
    # popularity asks no history: nothing in it speaks for the title, and nobody says that it does
    assert "owes it to no title of it alone" in said[at - 2] and "no language model was asked" in said[at - 1]
    assert said[at + 1].strip() == f"{twelfth.title}: rank 12 of 1,682, score {twelfth.score:.3f}"
    assert sum("without Fargo" in line or "without Star Wars" in line for line in said[at:]) == 2


def test_the_language_model_is_loaded_once_and_said_so(popular, tiny_model):
    said = talk(popular, "Fargo", "why 1", "/why 2", "ask Is it good?", "? Is it new?", language_model=tiny_model)
    assert sum(line.startswith("Loading the language model") for line in said) == 1
    assert sum(" says, in its own words: " in line for line in said) == 2
    assert sum(line == "Measured by the recommender:" for line in said) == 2


def test_a_server_answers_questions_and_the_chat_goes_on_where_it_does_not(popular):
    def answer(body: dict, number: int) -> Reply | str:
        return Reply(400, b"busy") if "new?" in question(body) else "It is a crime film."

    with ChatServer(answer) as server:
        settings = TextModelSettings(model="big-model", provider="openai", base_url=server.url)
        said = talk(popular, "Fargo", "? Is it new?", "? Is it good?", "list", language_model=settings)
    assert f"big-model (at {server.url}) says, in its own words: It is a crime film." in said
    assert any("gave no usable answer: status 400 'busy'" in line for line in said)
    assert sum(line.startswith("Loading the language model") for line in said) == 1
    assert "You like: Fargo (1996)" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "no such model"], "got 'no such model'"),
        (["--model", "m", "--provider", "openai", "--base-url", "localhost:8000"], "is named by its URL"),
        (["--provider", "openai", "--base-url", "http://localhost:8000/v1"], "name the model, too: --model NAME"),
        (
            ["--wishes", "both", "--model", "m", "--provider", "openai", "--base-url", "http://localhost:8000/v1"],
            "--provider transformers",
        ),
        (["--wishes", "stars"], "rules, both, model, but 'stars'"),
        (["--language-model", "m"], "--language-model is called --model now"),
    ],
)
def test_a_language_model_that_cannot_be_asked_is_said_before_the_chat(tiny_run, capsys, options, sentence):
    assert_one_sentence(call(capsys, "chat", tiny_run, *options), sentence)


def test_what_cannot_be_explained_or_asked_is_said_and_the_chat_goes_on(popular, tiny_model):
    said = talk(
        popular, "why 1", "ask Is it good?", "Fargo", "why", "why 11", "why 0", "list", language_model=tiny_model
    )
    assert said[0] == said[1] == "There are no titles yet: name some that you like."
    assert said.count("why takes the number of a title shown, 1 to 10.") == 3 and "You like: Fargo (1996)" in said
    said = talk(popular, "Fargo", "why 1", "ask Is it good?", "list")
    assert "Measured by the recommender:" in said
    assert any("this recommender was made in memory, so it has no language model of its own." in line for line in said)
    assert "You like: Fargo (1996)" in said
    assert "500 characters" in talk(popular, "Fargo", "ask " + "x" * 501, language_model=tiny_model)[-1]


def test_titles_that_begin_like_a_command_are_still_titles():
    names = ["Ask the Dust", "Why Worry?", "Why Me", "What Next"]
    few = Recommender(popularity(4), Catalog.from_rows([{"item_id": name, "title": name} for name in names]))
    assert talk(few, "why worry?")[0] == "understood: you like Why Worry?"
    assert talk(few, '"ask the dust"')[0] == "understood: you like Ask the Dust"


@pytest.mark.slow
def test_an_answer_is_marked_as_the_models_own_words_and_its_titles_as_no_recommendation():
    films = Catalog.from_rows(
        [
            {"item_id": "a", "title": "Fargo", "genres": ["Crime"]},
            {"item_id": "b", "title": "\x1b[2JRed\nHeat", "genres": ["Action"]},
            {"item_id": "c", "title": "Star Wars", "genres": ["Sci-Fi"]},
        ]
    )
    model = open_text_model(TextModelSettings(model="SmolLM2-135M-Instruct"))
    question = "ask Which film did George Lucas make with Luke Skywalker?"
    said = talk(Recommender(popularity(3), films), "Fargo", "/where genres=Action", question, language_model=model)
    assert "   1. Red Heat [b]" in said and not any("\x1b" in line for line in said)
    (answer,) = [
        line for line in said if line.startswith("SmolLM2-135M-Instruct (30 of 30 layers) says, in its own words: ")
    ]
    noted = "(It names 'Star Wars', which it was not told of: that is no recommendation.)" in said
    assert noted == ("Star Wars" in answer)
    assert len(titles(said)) == 3, "two lists of the recommender, and nothing of the model's"


def test_ctrl_c_in_a_pipe_ends_the_line_and_leaves(popular, tiny_model):
    class Interrupted(Lines):
        def write(self, piece: str) -> None:
            if "says" not in piece:
                raise KeyboardInterrupt
            super().write(piece)

    shown, typed = io.StringIO(), io.StringIO("Fargo\nask Is it good?\nlist\n")
    front = Interrupted(Screen(Console(file=shown, width=NO_END)), typed)
    with pytest.raises(KeyboardInterrupt):  # the command line makes it exit status 130
        Chat(popular, Session(), front, tiny_model).talk()
    assert shown.getvalue().endswith("says, in its own words: \n") and typed.read() == "list\n"


def test_a_line_that_is_too_long_is_refused_and_the_next_one_answered(popular):
    said = talk(popular, "x" * 1_000_000, "Fargo")
    assert said[0] == "A message may have 2,000 characters, but this one has 1,000,000. Say it in fewer."
    assert said[1] == "understood: you like Fargo (1996)"


@pytest.mark.slow
def test_it_reads_a_pipe_whatever_its_bytes(tiny_run):
    called = call_alone("chat", tiny_run, stdin=b"Star Trek\n2\n\xff\xfe\n\nmore\nwhy 20\n? Is it a \xff comedy\n")
    assert called.status == 0 and "Traceback" not in called.err
    assert "understood: you like Star Trek IV: The Voyage Home (1986)" in called.out and "  20. " in called.out
    assert (
        "without Star Trek IV: The Voyage Home" in called.out
        and "(2 of 2 layers) says, in its own words: " in called.out
    )
