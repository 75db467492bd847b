"""Texts in a terminal, broken between words where it ends; elsewhere plain lines of any length."""

from __future__ import annotations

import re
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

NO_END = 1_000_000  # columns of what is no terminal


class Screen:
    """Shows texts, and a line that grows piece by piece, broken between words where the terminal ends.

    Columns are counted, not characters: a Chinese one takes two.
    """

    def __init__(self, console: Console) -> None:
        """console: where to; as wide as a terminal is at the time."""
        self.console = console
        self._column, self._word = 0, ""

    def say(self, text: str | Text) -> None:
        """A text on lines of its own; "" ends the line that is being written."""
        self._end_word()
        whole = Text(text) if isinstance(text, str) else text
        for line in whole.split("\n", allow_blank=True):
            for part in self._wrapped(line):
                self._print(part, "\n")
        self._column = 0

    def write(self, piece: str) -> None:
        """A piece of the line, or of several; a word is shown once it is whole."""
        for part in re.findall(r"\n|[^\S\n]+|\S+", piece):
            if part == "\n":
                self.say("")
                continue
            if not part.isspace():
                self._word += part
                continue
            self._end_word()
            if 0 < self._column < self.console.width:
                self._print(Text(" "), "")
                self._column += 1

    def _end_word(self) -> None:
        width = cell_len(self._word)
        if self._column and self._column + width > self.console.width:
            self._print(Text(""), "\n")
            self._column = 0
        self._print(Text(self._word), "")
        self._column, self._word = self._column + width, ""

    def _print(self, text: Text, end: str) -> None:
        self.console.print(text, end=end, soft_wrap=True)

    def _wrapped(self, line: Text) -> list[Text]:
        """The line as lines that are no wider than the console; what continues it stands two columns further in than it."""
        width, blank = self.console.width, len(line.plain) - len(line.plain.lstrip())
        if cell_len(line.plain) <= width or blank + 4 >= width:
            return [line]
        words = line[blank:]
        first = words.wrap(self.console, width - blank)[0]
        first.rstrip()
        rest = words[len(first.plain) :]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        further = rest.wrap(self.console, width - blank - 2)
        for part in further:
            part.rstrip()
        return [Text(" " * blank) + first, *(Text(" " * (blank + 2)) + part for part in further)]


def screen(*, is_plain: bool = False) -> Screen:
    """Standard output: the terminal as it is wide at the time; where there is none, lines of any length.

    is_plain: without colours and whatever else steers a terminal, as where there is none.
    """
    width = None if sys.stdout.isatty() else NO_END
    return Screen(Console(highlight=False, width=width, force_terminal=False if is_plain else None))
