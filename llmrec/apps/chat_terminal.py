"""The chat in a terminal: lines that can be edited, recalled and completed, colours, a sign that something is at work."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import CompletionState
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.styles import Style
from rich.status import Status
from rich.text import Text

from llmrec.apps.chat_completion import completer_of
from llmrec.apps.chat_history import LinesTyped, history_file
from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS, too_long

if TYPE_CHECKING:
    from llmrec.apps.screen import Screen
    from llmrec.conversation.reader import Reader
    from llmrec.conversation.session import Reply

_PROMPT = Style.from_dict({"prompt": "bold ansigreen"})
_NUMBERED = re.compile(r"(?P<number> *\d+[.)]) (?P<label>.*)")


class Terminal:
    """Asks and shows in a terminal. Ctrl-C cancels the line or the running answer, Ctrl-D leaves."""

    keeps_going = True
    help = """\
Tab completes titles and commands; arrow up recalls lines, those of earlier chats, too, and Ctrl-R searches them.
Ctrl-C drops the line, or stops the answer that is being made; Ctrl-D leaves."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._line: PromptSession[str] = PromptSession()
        self._status: Status | None = None

    def begin(self, reader: Reader) -> None:
        """From now on lines are recalled and completed."""
        completer = completer_of(reader)
        self._line = PromptSession(
            history=LinesTyped(history_file(), self.say),
            completer=completer,
            complete_in_thread=True,  # typing does not wait for a catalogue of a million titles
            complete_while_typing=True,
            key_bindings=self._keys(completer),
            enable_suspend=True,
            style=_PROMPT,
            reserve_space_for_menu=6,
        )

    def ask(self, prompt: str) -> str:
        """The next line. Raises EOFError for Ctrl-D on an empty one, or where the terminal is gone, KeyboardInterrupt for Ctrl-C."""
        return self._line.prompt([("class:prompt", prompt)])

    def say(self, text: str, *, is_problem: bool = False) -> None:
        """A text on lines of its own."""
        self.screen.say(Text(text, "yellow" if is_problem else ""))

    def show(self, reply: Reply, written: str) -> None:
        """A reply, its parts in their colours, less what was written of it."""
        self.screen.say(coloured(reply)[len(written) :])

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A sign that something is at work, gone with the first piece of text that is written meanwhile."""
        with self.screen.console.status(Text("working ...", "dim")) as self._status:
            yield

    def wait(self, sentence: str) -> None:
        """What takes long; libraries show how far they are below it."""
        assert self._status is not None, sentence
        self._status.stop()
        self.say(sentence)

    def write(self, piece: str) -> None:
        """A piece of a reply."""
        assert self._status is not None, piece
        self._status.stop()
        self.screen.write(piece)

    def _keys(self, completer: Completer) -> KeyBindings:
        keys = KeyBindings()

        @keys.add(Keys.Tab)
        def complete(event: KeyPressEvent) -> None:
            """The first completion, or the next; at once, so that no Tab is lost while others are looked for as somebody types."""
            buffer = event.current_buffer
            if buffer.complete_state is not None and buffer.complete_state.completions:
                buffer.complete_next()
                return
            found = list(completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
            if len(found) == 1:
                buffer.apply_completion(found[0])
            elif found:
                buffer.complete_state = CompletionState(buffer.document, found)
                buffer.go_to_completion(0)

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            """Pasted lines become one: a list of titles stays a list."""
            if not self._refuse_long(event.data):
                lines = (line.strip() for line in event.data.splitlines())
                event.current_buffer.insert_text("; ".join(line for line in lines if line))

        @keys.add(Keys.Any, filter=Condition(lambda: len(self._line.default_buffer.text) >= MAX_MESSAGE_CHARACTERS))
        def overflow(event: KeyPressEvent) -> None:
            """No further key is taken; a book pasted in a terminal that does not say so would be minutes of them."""
            event.key_processor.empty_queue()
            event.app.output.bell()

        return keys

    def _refuse_long(self, text: str) -> bool:
        if len(text) <= MAX_MESSAGE_CHARACTERS:
            return False
        run_in_terminal(lambda: self.say(too_long(len(text)), is_problem=True))
        return True


def coloured(reply: Reply) -> Text:
    """A reply's text, its parts in their colours."""
    reasons = {one.reason for one in reply.listed} - {""}
    lines = []
    for line in reply.text.split("\n"):
        if line.startswith("understood: "):
            lines.append(Text(line, "cyan"))
        elif line.startswith("not understood: "):
            lines.append(Text(line, "yellow"))
        elif line.strip() in reasons:
            lines.append(Text(line, "dim"))
        elif (reply.listed or reply.choices) and (numbered := _NUMBERED.fullmatch(line)):
            lines.append(Text.assemble((numbered["number"], "green"), " ", (numbered["label"], "bold")))
        else:
            lines.append(Text(line))
    return Text("\n").join(lines)
