"""The lines typed in earlier chats, kept for the arrow keys: one file under the cache directory that only its owner may read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import History

from llmrec.errors import LlmrecError
from llmrec.files import atomic_file, cache_dir

KEPT = 1_000  # lines
LONGEST_KEPT = 2_000  # characters of a line; a longer one is recalled in this chat only


def history_file() -> Path:
    """Where they are kept."""
    return cache_dir() / "chat_history.jsonl"


class LinesTyped(History):
    """The file's lines, each a JSON string, the latest last. Several chats may add to it at a time."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        """say: told once where the file cannot be read or written; the chat goes on without it."""
        super().__init__()
        self.path, self._say, self._is_kept = path, say, True

    def load_history_strings(self) -> Iterable[str]:
        """The latest first. A file that has grown to twice what is kept is cut."""
        try:
            written = self.path.read_bytes().splitlines() if self.path.exists() else []
            if len(written) > 2 * KEPT:
                self._cut(written[-KEPT:])
        except (OSError, LlmrecError) as error:
            self._give_up(error)
            return []
        return [line for text in reversed(written[-KEPT:]) if (line := _line(text))]

    def store_string(self, string: str) -> None:
        """Adds a line in one step."""
        if not self._is_kept or len(string) > LONGEST_KEPT:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, json.dumps(string).encode() + b"\n")
        except OSError as error:
            self._give_up(error)

    def _cut(self, lines: list[bytes]) -> None:
        with atomic_file(self.path) as temporary:
            _append(temporary, b"".join(line + b"\n" for line in lines))

    def _give_up(self, error: OSError | LlmrecError) -> None:
        self._is_kept = False
        reason = error.strerror if isinstance(error, OSError) else str(error)
        self._say(f"(What is typed is not kept for later chats: '{self.path}': {reason}.)")


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _line(written: bytes) -> str:
    """A line of the file; "" for what is none."""
    try:
        read = json.loads(written)
    except ValueError:  # half of a line, written when the disk was full
        return ""
    return read if isinstance(read, str) else ""
