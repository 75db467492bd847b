"""A command in a terminal of its own: types keys, reads what is shown, answers what a terminal is asked."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

from tests.apps.calling import command

TAB, CTRL_C, CTRL_D, UP, LEFT, HOME = "\t", "\x03", "\x04", "\x1b[A", "\x1b[D", "\x01"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])|\r")


class AtTerminal:
    """One process in a pseudo-terminal, 80 columns wide."""

    def __init__(self, process: subprocess.Popen, terminal: int) -> None:
        self.process, self._terminal = process, terminal
        self.raw = ""  # all that was written, escape codes too
        self._read_to = 0  # of what is visible

    def type(self, keys: str) -> None:
        """As from a keyboard."""
        left = keys.encode()
        while left:
            left = left[os.write(self._terminal, left[:1024]) :]
            self._hear(0)

    def read_until(self, words: str, seconds: float = 60) -> str:
        """What is shown from the last words read on, until `words` are; without escape codes."""
        until = time.monotonic() + seconds
        while (found := visible(self.raw).find(words, self._read_to)) < 0:
            assert time.monotonic() < until, f"no {words!r} in {visible(self.raw)[self._read_to :][-2000:]!r}"
            self._hear(0.2)
        start, self._read_to = self._read_to, found + len(words)
        return visible(self.raw)[start : self._read_to]

    def end(self) -> int:
        """Its exit status, once it has ended."""
        until = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < until
            self._hear(0.2)
        return self.process.returncode

    def _hear(self, seconds: float) -> None:
        while select.select([self._terminal], [], [], seconds)[0]:
            try:
                heard = os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # the process has ended
                return
            self.raw += heard
            for _ in range(heard.count("\x1b[6n")):  # where is the cursor?
                os.write(self._terminal, b"\x1b[1;1R")
            seconds = 0


def visible(text: str) -> str:
    """What is written, without escape codes: not where it stands."""
    return _ESCAPES.sub("", text)


@contextlib.contextmanager
def at_terminal(*arguments: object, **environment: str) -> Iterator[AtTerminal]:
    """The command line in a terminal; ended with the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        command(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    try:
        yield AtTerminal(process, ours)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
