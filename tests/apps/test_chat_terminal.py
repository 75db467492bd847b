"""The chat in a terminal: real keys through prompt_toolkit in this process, and the command in a pseudo-terminal of its own."""

import contextlib
import io
import re
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from llmrec.apps.chat import Chat
from llmrec.apps.chat_completion import completer_of
from llmrec.apps.chat_history import KEPT, LinesTyped, history_file
from llmrec.apps.chat_terminal import Terminal
from llmrec.apps.screen import Screen
from llmrec.baselines.popularity import Popularity
from llmrec.conversation.session import Session
from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS
from llmrec.data.folder import load_data
from llmrec.recommender import Recommender
from tests.apps.at_terminal import CTRL_C, CTRL_D, HOME, LEFT, TAB, UP, at_terminal, visible
from tests.apps.calling import call_alone
from tests.enrich.serving import ChatServer, Reply

ENTER = "\r"


@pytest.fixture(scope="module")
def popular(movielens) -> Recommender:
    """Always recommends the most watched films that were not named."""
    data = load_data(movielens)
    return Recommender(Popularity().fit(data.interactions), data.catalog)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """Lines that are typed here are kept here."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextlib.contextmanager
def typing(keys: str, *, colours: bool = True) -> Iterator[tuple[Terminal, io.StringIO]]:
    """A terminal in which these keys are typed, and what it shows."""
    shown = io.StringIO()
    console = Console(
        file=shown, width=80, highlight=False, force_terminal=True, color_system="standard" if colours else None
    )
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        threading.Thread(target=keyboard.send_text, args=(keys,), daemon=True).start()  # a pipe holds no book
        yield Terminal(Screen(console)), shown


def chat_typing(recommender: Recommender, keys: str, session: Session | None = None, **options: bool) -> str:
    """What a chat shows to these keys and Ctrl-D, escape codes too."""
    with typing(keys + CTRL_D, **options) as (terminal, shown):
        terminal.begin(recommender.reader)
        Chat(recommender, session or Session(), terminal).talk()
    return shown.getvalue()


def liked(recommender: Recommender, session: Session) -> list[str]:
    """The titles that a conversation's user likes."""
    return [recommender.catalog.title(item) for item in recommender.catalog.index(session.state.liked).tolist()]


def offered(recommender: Recommender, before: str, *, tab: bool = True) -> list[str]:
    """What stands before the cursor once each completion is taken."""
    found = completer_of(recommender.reader).get_completions(Document(before), CompleteEvent(completion_requested=tab))
    return [before[: len(before) + one.start_position] + one.text for one in found]


def test_tab_completes_a_title_and_keys_edit_the_line(popular):
    session = Session()
    chat_typing(popular, f"the empire str{TAB}{ENTER}argo{HOME}F{ENTER}Toy Stry{LEFT}o{ENTER}", session)
    assert liked(popular, session) == ["The Empire Strikes Back", "Fargo", "Toy Story"]


def test_titles_are_completed_wherever_they_stand_in_a_sentence(popular):
    assert offered(popular, "more like the empire str") == ["more like The Empire Strikes Back"]
    assert offered(popular, "Fargo; usual susp") == ["Fargo; The Usual Suspects"]
    assert "something to watch after Fargo" in offered(popular, "something to watch after farg")
    assert offered(popular, "not jurassic pa", tab=False)[0] == "not Jurassic Park"


def test_a_sentence_is_left_alone_until_tab_asks(popular):
    assert offered(popular, "something lighter, from the ninet", tab=False) == []
    assert offered(popular, "could it be a come", tab=False) == [] != offered(popular, "could it be a come")


def test_titles_that_look_alike_are_completed_with_their_year(popular):
    assert sorted(offered(popular, "sabrin")) == ["Sabrina (1954)", "Sabrina (1995)"]


def test_commands_conditions_and_files_are_completed(popular, tmp_path):
    assert offered(popular, "/un", tab=False) == ["/undo"] and "undo" in offered(popular, "un")
    assert offered(popular, "/where gen") == ["/where genres="]
    assert offered(popular, "/where year>=1990; genres!=War|Hor") == ["/where year>=1990; genres!=War|Horror"]
    (tmp_path / "talk.json").touch()
    assert offered(popular, f"/save {tmp_path}/ta") == [f"/save {tmp_path}/talk.json"]


def test_ctrl_c_drops_the_line_and_stays(popular):
    session = Session()
    chat_typing(popular, f"Fargo{ENTER}Toy Story{CTRL_C}Star Wars{ENTER}", session)
    assert liked(popular, session) == ["Fargo", "Star Wars"]


def test_ctrl_c_stops_an_answer_and_keeps_the_conversation(popular, tiny_model):
    class Impatient(Terminal):
        def write(self, piece: str) -> None:
            super().write(piece)
            signal.raise_signal(signal.SIGINT)

    session = Session()
    with typing(f"Fargo{ENTER}ask Is it good?{ENTER}Star Wars{ENTER}{CTRL_D}") as (terminal, shown):
        terminal = Impatient(terminal.screen)
        terminal.begin(popular.reader)
        Chat(popular, session, terminal, tiny_model).talk()
    assert liked(popular, session) == ["Fargo", "Star Wars"] and len(session.turns) == 4
    assert "(stopped: the conversation is as it was before)" in visible(shown.getvalue())


def test_a_pasted_list_is_one_line_and_a_pasted_book_is_refused(popular):
    session = Session()
    paste = "\x1b[200~{}\x1b[201~".format
    shown = chat_typing(
        popular, paste("Fargo\r\nToy Story\n") + ENTER + paste("x" * 1_000_000) + f"Star Wars{ENTER}", session
    )
    assert liked(popular, session) == ["Fargo", "Toy Story", "Star Wars"]
    assert "A message may have 2,000 characters, but this one has 1,000,000." in visible(shown)


def test_a_line_that_is_full_takes_no_further_key(popular):
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):

        def type_a_book() -> None:  # as a terminal does that does not say what is pasted
            keyboard.send_text("x" * 30_000)
            while not taken.wait(0.2):
                keyboard.send_text(ENTER)

        terminal = Terminal(Screen(Console(file=io.StringIO(), force_terminal=True)))
        terminal.begin(popular.reader)
        taken = threading.Event()
        threading.Thread(target=type_a_book, daemon=True).start()
        line = terminal.ask("> ")
        taken.set()
    assert line == "x" * MAX_MESSAGE_CHARACTERS


def test_parts_have_colours_unless_there_are_none(popular):
    shown = chat_typing(popular, f"Fargo{ENTER}Star Trek{ENTER}")
    assert "\x1b[36munderstood: you like Fargo (1996)\x1b[0m" in shown
    assert re.search(r"\x1b\[32m   1\.\x1b\[0m \x1b\[1m[^\x1b]+ \(\d{4}\)\x1b\[0m", shown)
    assert re.search(r"\n *\x1b\[2m *[A-Z]\w+ .+\x1b\[0m\n", shown), "reasons are dimmed"
    assert re.search(r"\x1b\[32m  3\)\x1b\[0m \x1b\[1mStar Trek: First Contact \(1996\)\x1b\[0m", shown)
    assert not re.search(r"\x1b\[[0-9;]*3\dm", chat_typing(popular, f"Fargo{ENTER}", colours=False))


def test_what_was_typed_is_recalled_in_a_later_chat_by_its_owner_alone(popular, own_cache):
    chat_typing(popular, f"Fargo{ENTER}")
    session = Session()
    chat_typing(popular, f"{UP}{ENTER}", session)
    assert liked(popular, session) == ["Fargo"]
    assert history_file().is_relative_to(own_cache) and stat.S_IMODE(history_file().stat().st_mode) == 0o600


def test_the_history_is_bounded_and_a_broken_line_is_passed_over(tmp_path):
    path = tmp_path / "history"
    for number in range(2 * KEPT + 1):
        LinesTyped(path, print).store_string(f"line {number}")
    with path.open("ab") as file:
        file.write(b'"half a li\n')
    kept = list(LinesTyped(path, print).load_history_strings())
    assert kept[0] == f"line {2 * KEPT}" and len(kept) == KEPT - 1
    assert len(path.read_bytes().splitlines()) == KEPT and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_history_that_cannot_be_kept_is_said_once_and_the_chat_goes_on(popular, own_cache):
    own_cache.write_text("a file where a folder should be")
    session = Session()
    shown = visible(chat_typing(popular, f"Fargo{ENTER}Toy Story{ENTER}", session))
    assert liked(popular, session) == ["Fargo", "Toy Story"]
    assert shown.count("What is typed is not kept for later chats") == 1


@pytest.mark.slow
def test_it_talks_in_a_terminal(tiny_run, tmp_path):
    with ChatServer(lambda body, number: Reply(wait=60)) as server:
        model = ["--model", "big", "--provider", "openai", "--base-url", server.url]
        with at_terminal("chat", tiny_run, *model, LLMREC_CACHE=tmp_path / "cache") as terminal:
            assert "1,682 titles. " in terminal.read_until("> ")
            terminal.type(f"the empire str{TAB}{ENTER}")
            assert "you like The Empire Strikes Back (1980)" in terminal.read_until(" 10. ")
            terminal.read_until("> ")
            terminal.type(f"ask Is it good?{ENTER}")
            terminal.read_until("says, in its own words")
            terminal.type(CTRL_C)
            terminal.read_until("(stopped: ")
            terminal.read_until("> ")
            terminal.type(f"{UP}{UP}{CTRL_C}star t")
            terminal.read_until("Star Trek: Generations")  # offered while typing
            terminal.type(f"rek{ENTER}")
            terminal.read_until("number? ")
            terminal.type(f"1{ENTER}")
            assert "you like Star Trek: Generations (1994)" in terminal.read_until("> ")
            terminal.type(CTRL_D)
            assert terminal.end() == 0
    assert "Traceback" not in terminal.raw


@pytest.mark.slow
def test_plain_lines_have_no_escape_codes(tiny_run, tmp_path):
    with at_terminal("chat", tiny_run, "--plain") as terminal:
        terminal.read_until("> ")
        terminal.type("Fargo\n")
        assert "understood: you like Fargo (1996)" in terminal.read_until(" 10. ")
        terminal.read_until("> ")
        time.sleep(0.5)  # the prompt is written a moment before the line is waited for, and no person is quicker
        terminal.type(f"Toy St{CTRL_C}")
        terminal.read_until("^C")
        terminal.read_until("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0 and "\x1b" not in terminal.raw
    called = call_alone("chat", tiny_run, stdin="Fargo\n", FORCE_COLOR="1")
    assert " 10. " in called.out and "\x1b" not in called.out and "> " not in called.out
