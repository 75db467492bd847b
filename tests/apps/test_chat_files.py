"""What a chat writes: conversations that are kept and gone on with, transcripts that survive a kill."""

import io
import json
import os
import re
import signal
import subprocess

import pytest
from rich.console import Console

from llmrec.apps.chat import Chat
from llmrec.apps.chat_lines import Lines
from llmrec.apps.chat_transcript import Transcript
from llmrec.apps.screen import NO_END, Screen
from llmrec.baselines.popularity import Popularity
from llmrec.conversation.session import Session
from llmrec.data.folder import load_data
from llmrec.errors import LlmrecError
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call, command


@pytest.fixture(scope="module")
def popular(movielens) -> Recommender:
    """Always recommends the most watched films that were not named."""
    data = load_data(movielens)
    return Recommender(Popularity().fit(data.interactions), data.catalog)


def talk(recommender: Recommender, *lines: str, **more: object) -> tuple[Session, str]:
    """The conversation after these lines, and what was said."""
    shown, session = io.StringIO(), more.pop("session", None) or Session()
    front = Lines(Screen(Console(file=shown, width=NO_END)), io.StringIO("".join(f"{line}\n" for line in lines)))
    Chat(recommender, session, front, **more).talk()
    return session, shown.getvalue()


def turns(transcript: str) -> list[str]:
    """What stands in the blocks of a transcript."""
    return [block[1] for block in re.finditer(r"^```text\n(.*?)\n```$", transcript, re.DOTALL | re.MULTILINE)]


def test_a_kept_conversation_goes_on_where_it_was(popular, tmp_path):
    path = tmp_path / "talk.json"
    held, said = talk(popular, "Fargo", "/where genres=Comedy", f"/save {path}", "Star Trek", "/save")
    assert said.count(f"Kept in '{path}'") == 2
    session = Session.load(path, popular.catalog)
    assert session == held and session.open is not None
    session, said = talk(popular, "1", "list", session=session)
    assert "> Star Trek\nWhich 'Star Trek' do you mean?\n  1) Star Trek: Generations (1994)" in said, "as it was left"
    assert "You like: Fargo (1996); Star Trek: Generations (1994)\nOnly: Comedy" in said


def test_a_file_that_is_no_conversation_is_not_written_over(popular, tmp_path):
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}')
    session, said = talk(
        popular,
        "Fargo",
        f"/save {notes}",
        "/save",
        f"/save {tmp_path}",
        f"/save {'x' * 300}",
        "/save a\0b/c",
        "Toy Story",
    )
    assert notes.read_text() == '{"mine": 1}' and "is no conversation that /save wrote" in said
    assert "/save takes the name of a file" in said and "Traceback" not in said
    assert len(session.state.liked) == 2, "the chat went on"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (None, "cannot read the conversation"),
        (b'{"format": 1, "sta', "is not valid JSON"),
        (b'{"format": 99}', "is of format 99"),
        (b'{"format": 1, "state": {"liked": ["no such film"]}}', "names 1 items that this catalogue lacks"),
    ],
)
def test_a_conversation_that_cannot_be_gone_on_with_is_one_sentence(tiny_run, tmp_path, capsys, written, sentence):
    path = tmp_path / "talk.json"
    if written is not None:
        path.write_bytes(written)
    called = call(capsys, "chat", tiny_run, "--resume", path)
    assert called.status == 2 and called.err.count("\n") == 1 and sentence in called.err, called


def test_a_transcript_has_every_turn_and_goes_on(popular, tmp_path):
    path = tmp_path / "new" / "talk.md"
    talk(popular, "Fargo", "list", transcript=Transcript(path, "runs/demo"))
    with path.open("a") as file:
        file.write("cut in the middle of a li")
    _, said = talk(popular, f"/transcript {path}", "Toy Story ```` x")
    assert f"Every turn from here on is written to '{path}'." in said
    text = path.read_text()
    assert [turn.splitlines()[0] for turn in turns(text)] == ["> Fargo", "> list"]
    assert turns(text)[0].splitlines()[1] == "understood: you like Fargo (1996)"
    assert len(re.findall("^# llmrec chat: ", text, re.MULTILINE)) == 2
    assert "\n`````text\n> Toy Story ```` x\n" in text, "a fence is longer than what stands inside"


def test_a_file_that_is_no_transcript_stays_as_it_is(tiny_run, tmp_path, capsys):
    book = tmp_path / "book.md"
    book.write_text("# My book\n")
    assert_one_sentence(call(capsys, "chat", tiny_run, "--transcript", book), "is no transcript of a chat")
    assert_one_sentence(call(capsys, "chat", tiny_run, "--transcript", tmp_path), "Is a directory")
    assert book.read_text() == "# My book\n"
    with pytest.raises(LlmrecError, match="is no transcript"):
        Transcript(book, "x")


def test_a_transcript_that_cannot_be_written_on_is_said_and_the_chat_goes_on(popular, tmp_path):
    full = Transcript(tmp_path / "talk.md", "x")
    os.dup2(os.open("/dev/full", os.O_WRONLY), full._descriptor)  # from here on the disk is full
    session, said = talk(popular, "Fargo", "Toy Story", transcript=full)
    assert said.count("cannot write the transcript") == 1 and len(session.state.liked) == 2


@pytest.mark.slow
def test_a_killed_chat_leaves_all_its_turns(tiny_run, tmp_path):
    path, kept = tmp_path / "talk.md", tmp_path / "talk.json"
    process = subprocess.Popen(
        command("chat", tiny_run, "--transcript", path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    process.stdin.write(f"Fargo\nwhy 1\n/save {kept}\n")
    process.stdin.flush()
    while "Kept in" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first, second = turns(path.read_text())
    assert first.startswith("> Fargo\nunderstood: ") and " 10. " in first
    assert second.startswith("> why 1\n") and "Measured by the recommender:" in second
    assert json.loads(kept.read_text())["turns"][-2]["text"] == "why 1"
