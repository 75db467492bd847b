"""The chat in a pipe, or in a terminal where plain lines are asked for: no colours, nothing that moves, no keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS, too_long

if TYPE_CHECKING:
    from llmrec.apps.screen import Screen
    from llmrec.conversation.reader import Reader
    from llmrec.conversation.session import Reply


class Lines:
    """Reads lines from a stream and shows lines."""

    help = "Plain lines: Ctrl-D leaves."

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        """stream: a terminal's, which is shown a prompt and whose Ctrl-C cancels, or any other."""
        self.screen, self._stream = screen, stream
        self.keeps_going = stream.isatty()

    def begin(self, reader: Reader) -> None:
        """There are no keys."""

    def ask(self, prompt: str) -> str:
        """The next line. Raises EOFError at the end."""
        while True:
            try:
                if self.keeps_going:
                    self.screen.console.print(prompt, end="")
                length, line = self._read()
            except KeyboardInterrupt:
                self.say("")
                raise
            if line == "":
                if self.keeps_going:
                    self.say("")
                raise EOFError
            if length <= MAX_MESSAGE_CHARACTERS:
                return line.removesuffix("\n")
            self.say(too_long(length))

    def say(self, text: str, *, is_problem: bool = False) -> None:
        """A text on lines of its own."""
        self.screen.say(text)

    def show(self, reply: Reply, written: str) -> None:
        """A reply's text, less what was written of it."""
        self.screen.say(reply.text.removeprefix(written))

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Nothing is shown."""
        yield

    def wait(self, sentence: str) -> None:
        """What takes long."""
        self.screen.say(sentence)

    def write(self, piece: str) -> None:
        """A piece of a reply."""
        self.screen.write(piece)

    def _read(self) -> tuple[int, str]:
        """The length of the next line in characters, its end left out, and as much of the line as may be used; "" at the end."""
        line = part = self._stream.readline(MAX_MESSAGE_CHARACTERS + 1)
        length = len(line.removesuffix("\n"))
        while part and not part.endswith("\n"):
            part = self._stream.readline(1 << 20)
            length += len(part.removesuffix("\n"))
        return length, line
