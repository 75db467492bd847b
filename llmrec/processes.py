"""Processes that do not outlive who started them, and do not work in one folder at once."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from llmrec.errors import LlmrecError

PARENT = "LLMREC_PARENT"  # in the environment: id of the process that this one is to end with
INTERVAL = 0.2  # seconds between two looks
logger = logging.getLogger(__name__)


def with_parent() -> dict[str, str]:
    """The environment for a process that is to call `end_with_parent` and end with this one."""
    return {**os.environ, PARENT: str(os.getpid())}


@contextlib.contextmanager
def as_parent() -> Iterator[None]:
    """Inside, a process that a library starts, and that calls `end_with_parent`, is to end with this one."""
    before = os.environ.get(PARENT)
    os.environ |= with_parent()
    try:
        yield
    finally:
        del os.environ[PARENT]
        if before is not None:
            os.environ[PARENT] = before


def end_with_parent() -> None:
    """From here on this process ends when the one that $LLMREC_PARENT names has ended, whatever ended it.

    A signal to that one alone, SIGKILL among them, would else leave this one working unseen.
    """
    named = os.environ.get(PARENT, "")
    if not named.isdecimal() or int(named) == os.getpid():
        return
    parent = int(named)
    is_child = os.getppid() == parent  # else there is a launcher between the two

    def monitor() -> None:
        while os.getppid() == parent if is_child else _is_running(parent):
            time.sleep(INTERVAL)
        os._exit(1)

    threading.Thread(target=monitor, daemon=True, name="end with parent").start()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")  # one that has ended but was not waited for can still be signalled
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Inside, nobody else who asks for it is: the others wait. Nothing is written into the folder; the turn ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def only_one(folder: Path, doing: str = "training") -> Iterator[None]:
    """Inside, nobody else who asks for it works in `folder`. It is made where it is missing, and removed again where it stays empty.

    doing: what the sentence calls it. Raises LlmrecError where somebody does already, or where the folder cannot be written into. The
    lock ends with the process.
    """
    from llmrec.files import check_writable  # brings numpy, which no command needs before it runs

    check_writable(folder)
    is_new = not folder.exists()
    descriptor = _locked(folder, doing)
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(descriptor)


def _locked(folder: Path, doing: str) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LlmrecError(
                f"another process is {doing} in '{folder}'; wait for it or stop it, or name another output."
            ) from error
        except OSError as error:
            logger.warning(
                "'%s' cannot be locked here (%s): see that nothing else is %s in it", folder, error.strerror, doing
            )
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)  # whoever had it before has just removed it
