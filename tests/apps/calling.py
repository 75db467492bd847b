"""Runs the command line as a user does, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from llmrec.apps.cli import main


@dataclass
class Called:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The one JSON object on standard output."""
        assert self.status == 0, self.err
        return json.loads(self.out)


def call(capsys, *arguments: object) -> Called:
    """The command in this process."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as end:
        status = end.code or 0
    return Called(status, *capsys.readouterr())


def command(*arguments: object) -> list[str]:
    """The command line for a process of its own."""
    return [sys.executable, "-m", "llmrec", *map(str, arguments)]


def call_alone(*arguments: object, stdin: str | bytes = "", **environment: str) -> Called:
    """The command in a process of its own, the output decoded as UTF-8."""
    done = subprocess.run(
        command(*arguments),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
        check=False,
    )
    return Called(done.returncode, done.stdout.decode(), done.stderr.decode())


def assert_one_sentence(called: Called, sentence: str) -> None:
    """A mistake of the user's: exit status 2, nothing on standard output, one line on standard error."""
    assert called.status == 2, called
    assert called.out == ""
    lines = [line for line in called.err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("llmrec: "), called.err
    assert sentence in lines[0], lines[0]
