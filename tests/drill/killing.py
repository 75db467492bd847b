"""Runs something in a process of its own and kills it right before its n-th file operation below a folder."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PATHS = {  # event of sys.audit -> places of (path, folder it counts from) among its arguments
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
    "sqlite3.connect": ((0, None),),
}


@dataclass(frozen=True)
class Ended:
    """status: exit status, -9 for killed; operations: what it did below the folder, in words, in order; output: what it printed."""

    status: int
    operations: list[str]
    output: str


def run(act: Callable[[], None], monitored: Path, notes: Path, *, kill_at: int | None = None) -> Ended:
    """Forks, so that what is imported here need not be imported again. kill_at: counted from 0; None: it comes to its end.

    notes: a folder outside of `watched`.
    """
    (notes / "operations").write_text("")
    child = os.fork()
    if not child:
        _run_and_exit(act, monitored, notes, kill_at)
    _, ended = os.waitpid(child, 0)
    status = -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    operations = (notes / "operations").read_text().splitlines()
    return Ended(status, operations, (notes / "output").read_text(errors="replace"))


def _run_and_exit(act: Callable[[], None], monitored: Path, notes: Path, kill_at: int | None) -> None:
    status = 1
    try:
        output = os.open(notes / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _watch(monitored, os.open(notes / "operations", os.O_WRONLY | os.O_APPEND), kill_at)
        act()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(monitored: Path, log: int, kill_at: int | None) -> None:
    """Counts this process's file operations below `watched`; audit hooks are called before what they tell of is done."""
    count, root = 0, f"{monitored}{os.sep}"
    by_age = f"{root}cache/digests/"  # digests of model files are kept or not by the files' age: their number is another each time

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            paths = [_absolute(path, None)] if isinstance(flags, int) and flags & WRITES else []
        elif event in PATHS:
            places = PATHS[event]
            paths = [_absolute(arguments[at], None if base is None else arguments[base]) for at, base in places]
        else:
            return
        if not any(path.startswith(root) and not f"{path}{os.sep}".startswith(by_age) for path in paths):
            return
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(log, f"{event} {' -> '.join(path.removeprefix(root) for path in paths)}\n".encode())

    sys.addaudithook(hook)


def _absolute(path: object, folder: int | None) -> str:
    if not isinstance(path, str | bytes | os.PathLike):
        return ""  # a descriptor: its file was opened before
    here = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else os.getcwd()
    return os.path.normpath(os.path.join(here, os.fsdecode(path)))
