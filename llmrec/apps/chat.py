"""`llmrec chat`: say what you would like, get titles, ask why, go on. In a terminal with keys and colours, in a pipe plain lines.

The recommender chooses titles; a language model with all its layers explains and answers. Titles that it writes are words.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from llmrec.apps.grouped import grouped
from llmrec.apps.options import (
    BaseUrl,
    Decoder,
    Instruction,
    OldTextModelName,
    Provider,
    Run,
    TextModelName,
    Wishes,
    check_wishes,
    text_model_settings,
)
from llmrec.errors import DataError, LlmrecError, RequestError
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.apps.chat_transcript import Transcript
    from llmrec.conversation.reader import Reader
    from llmrec.conversation.session import Reply, Session
    from llmrec.recommender import Recommender
    from llmrec.text_models.protocol import TextModel
    from llmrec.text_models.settings import TextModelSettings

FILES_HELP = """\
  /save FILE         keeps this conversation; llmrec chat RUN --resume FILE goes on with it
  /transcript FILE   writes every turn from here on to a Markdown file"""
STOPPED = "(stopped: the conversation is as it was before)"
_FILE_COMMAND = re.compile(r"/(?P<name>save|transcript)(?:\s+(?P<file>.*))?$", re.IGNORECASE | re.DOTALL)


class Front(Protocol):
    """Where a conversation is typed and shown: a terminal or plain lines."""

    keeps_going: bool  # after Ctrl-C: it cancels what runs, and does not leave
    help: str  # about keys

    def begin(self, reader: Reader) -> None:
        """Before the first line: what can be completed."""

    def ask(self, prompt: str) -> str:
        """The next line. Raises EOFError at the end."""

    def say(self, text: str, *, is_problem: bool = False) -> None:
        """A text on lines of its own."""

    def show(self, reply: Reply, written: str) -> None:
        """A reply, less the beginning that was written piece by piece."""

    def working(self) -> AbstractContextManager[None]:
        """While something is at work."""

    def wait(self, sentence: str) -> None:
        """What takes long, said inside of `working`."""

    def write(self, piece: str) -> None:
        """A piece of a reply, inside of `working`."""


@grouped
def chat(
    run: Run,
    instruction: Instruction = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on with a conversation that /save kept.")
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every turn to this Markdown file as it comes.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain lines in a terminal, too: no colours, no keys, nothing that moves.")
    ] = False,
    *,
    decoder: Decoder,
    model: TextModelName = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    wishes: Wishes = "rules",
    old_model: OldTextModelName = None,
) -> None:
    """Say in words what you would like and get titles, again and again. Titles are found however they are spelt.

    "like Fargo but funnier", "no more Star Trek", "older ones", "why the second?": help, typed in the chat, says more.

    \b
    Example:
      llmrec chat runs/demo
      llmrec chat runs/demo --transcript talk.md
      echo "like Star Wars, but funnier" | llmrec chat runs/demo
    """
    from llmrec.apps.chat_transcript import Transcript
    from llmrec.conversation.session import Session
    from llmrec.files import read_json
    from llmrec.text_models.open_model import check_text_model

    language_model = text_model_settings(model, provider, base_url)
    if language_model is not None:
        check_text_model(language_model)
    check_wishes(wishes, language_model)
    if resume is not None:
        read_json(resume, "conversation", DataError)  # said before a model is loaded
    written = None if transcript is None else Transcript(transcript, printable(str(run)))
    front = _front(plain)
    front.say(f"Loading the recommender of {printable(str(run))} ...")
    recommender = decoder.open(run, wishes=wishes)
    session = Session() if resume is None else Session.load(resume, recommender.catalog)
    session.instruction = instruction or session.instruction
    front.begin(recommender.reader)
    Chat(recommender, session, front, language_model, kept_in=resume, transcript=written).talk()


def _front(plain: bool) -> Front:
    """The terminal where there is one; plain lines in a pipe, and where they are asked for."""
    from llmrec.apps.chat_lines import Lines
    from llmrec.apps.screen import screen

    if plain or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", "unknown"):
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        return Lines(screen(is_plain=True), sys.stdin)
    from llmrec.apps.chat_terminal import Terminal

    return Terminal(screen())


class Chat:
    """One conversation in a terminal or a pipe: reads lines and shows what they are answered."""

    def __init__(
        self,
        recommender: Recommender,
        session: Session,
        front: Front,
        language_model: str | TextModelSettings | TextModel | None = None,
        *,
        kept_in: Path | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        """language_model: who explains and answers, as `Recommender.converse` takes it. kept_in: where /save without a name writes."""
        self.recommender, self.session, self.front = recommender, session, front
        self.language_model, self.kept_in, self.transcript = language_model, kept_in, transcript

    def talk(self) -> None:
        """Reads and answers lines until `quit` or the end of the input."""
        from llmrec.conversation.turn import greeting

        if self.transcript is not None:
            self.front.say(f"Every turn is written to '{printable(str(self.transcript.path))}'.")
        self.front.say(greeting(self.recommender.catalog.num_items))
        for turn in self.session.turns[-2:]:  # of a conversation that goes on
            self.front.say(f"> {turn.text}" if turn.role == "user" else turn.text)
        while True:
            try:
                if self.answer(self.front.ask("> " if self.session.open is None else "number? ")):
                    return
            except EOFError:
                return
            except KeyboardInterrupt:  # drops the line
                if not self.front.keeps_going:
                    raise

    def answer(self, line: str) -> bool:
        """Answers one line; whether it ends the conversation."""
        from llmrec.conversation.commands import HELP

        if asked := _FILE_COMMAND.match(line.strip()):
            try:
                (self._save if asked["name"].casefold() == "save" else self._write_transcript)(asked["file"] or "")
            except (LlmrecError, OSError) as error:
                self.front.say(printable(str(error)), is_problem=True)
            return False
        pieces: list[str] = []

        def write(piece: str) -> None:
            pieces.append(piece)
            self.front.write(piece)

        try:
            with self.front.working():
                reply = self.recommender.converse(
                    self.session, line, language_model=self.language_model, on_text=write, on_wait=self.front.wait
                )
        except KeyboardInterrupt:
            if pieces:
                self.front.say("")
            if not self.front.keeps_going:
                raise
            self.front.say(STOPPED, is_problem=True)
            self._put_down(line, "".join(pieces) + f"\n{STOPPED}")
            return False
        self.front.show(reply, "".join(pieces))
        if reply.text.endswith(HELP):
            self.front.say(f"{FILES_HELP}\n{self.front.help}")
        self._put_down(line, reply.text)
        return reply.ended

    def _save(self, file: str) -> None:
        """Keeps the conversation in a file, the one it is kept in already where none is named."""
        from llmrec.conversation.session import Session

        path = _named(file) or self.kept_in
        if path is None:
            raise RequestError("/save takes the name of a file: /save talk.json.")
        if path.exists():
            Session.load(path, self.recommender.catalog)  # raises where it is something else, which stays
        self.session.save(path)
        self.kept_in = path
        self.front.say(f"Kept in '{printable(str(path))}': go on with --resume.")

    def _write_transcript(self, file: str) -> None:
        """From here on every turn is written to a file."""
        from llmrec.apps.chat_transcript import Transcript

        path = _named(file)
        if path is None:
            raise RequestError("/transcript takes the name of a file: /transcript talk.md.")
        title = "a recommender" if self.recommender.folder is None else printable(str(self.recommender.folder))
        opened = Transcript(path, title)
        if self.transcript is not None:
            self.transcript.close()
        self.transcript = opened
        self.front.say(f"Every turn from here on is written to '{printable(str(path))}'.")

    def _put_down(self, line: str, text: str) -> None:
        """A turn in the transcript; where it cannot be written, the conversation goes on without."""
        if self.transcript is None:
            return
        try:
            self.transcript.add(line, text)
        except LlmrecError as error:
            self.transcript.close()
            self.transcript = None
            self.front.say(f"{printable(str(error))} The turns before are in it.", is_problem=True)


def _named(file: str) -> Path | None:
    """A file as it is typed, in quotes or with ~."""
    name = printable(file).strip("\"'")
    return Path(os.path.expanduser(name)) if name else None
