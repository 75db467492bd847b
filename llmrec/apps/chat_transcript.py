"""A conversation written to a Markdown file, turn by turn as it comes: what is whole survives a kill."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from llmrec.errors import LlmrecError

_FIRST_LINE = b"# llmrec chat: "


class Transcript:
    """An open transcript. Each turn is a block of its own, what was typed after ">", written in one step and flushed to disk."""

    def __init__(self, path: Path, title: str) -> None:
        """Goes on where there is a transcript already. title: of what is talked with, in the heading before the first turn.

        Raises LlmrecError where the file is something else or cannot be written; nothing is changed then.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            there = os.pread(self._descriptor, len(_FIRST_LINE), 0)
            size = os.fstat(self._descriptor).st_size
            ends_well = size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n"
        except OSError as error:
            self.close()
            raise _cannot_write(path, error) from error
        if there not in (b"", _FIRST_LINE):
            self.close()
            raise LlmrecError(
                f"'{path}' is no transcript of a chat (its first line does not begin with '{_FIRST_LINE.decode().strip()}'), so it is "
                "left as it is. Name a new file."
            )
        self._before = ("" if ends_well else "\n") + ("\n" if there else "") + f"{_FIRST_LINE.decode()}{title}"

    def add(self, typed: str, answered: str) -> None:
        """One turn. Raises LlmrecError where it cannot be written."""
        turn = "\n".join(f"> {line}" for line in (typed or " ").split("\n")) + "\n" + answered.rstrip("\n")
        longest = max((len(ticks) for ticks in re.findall(r"`{3,}", turn)), default=2)
        fence = "`" * (longest + 1)
        self._write(f"{self._heading()}\n{fence}text\n{turn}\n{fence}\n")

    def close(self) -> None:
        """Ends it; what was added is on the disk already."""
        os.close(self._descriptor)

    def _heading(self) -> str:
        """Before the first turn: with what and when."""
        if not self._before:
            return ""
        before, self._before = self._before, ""
        return f"{before}, {datetime.now().astimezone().isoformat(' ', 'minutes')}\n"

    def _write(self, text: str) -> None:
        content = text.encode("utf-8", "backslashreplace")
        try:
            written = os.write(self._descriptor, content)
            if written < len(content):  # the disk is full in the middle of it
                os.write(self._descriptor, content[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def _cannot_write(path: Path, error: OSError) -> LlmrecError:
    return LlmrecError(f"cannot write the transcript '{path}': {error.strerror or error}. Name another file.")
