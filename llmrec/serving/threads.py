"""Threads: one that owns a model, and others beside it for work that takes a while, with a bound on how much may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from llmrec.serving.errors import BusyError

Found = TypeVar("Found")


class OwnThread(Executor):
    """An executor of one thread that nobody waits for at the end: one that is stuck in a dead engine would never let the process go."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future, Callable, tuple] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, function: Callable[..., Found], /, *arguments: object) -> Future[Found]:
        """What the function will have returned."""
        future: Future[Found] = Future()
        self._work.put((future, function, arguments))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """The thread ends when it has done what was submitted."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, arguments = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            del work, future, function, arguments  # nothing of a model stays while the thread waits


class BoundedThread:
    """Runs functions one after another."""

    def __init__(self, what: str, most: int) -> None:
        """what: who it works for, in the sentence that refuses; most: calls that may wait or run."""
        self._what, self._most, self._number = what, most, 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=what)

    async def run(self, function: Callable[..., Found], *arguments: object) -> Found:
        """What the function returns or raises. Raises BusyError where too many wait."""
        if self._number >= self._most:
            raise BusyError(f"{self._number} requests wait for {self._what} already. Try again later.", 1)
        self._number += 1
        loop = asyncio.get_running_loop()
        work = self._executor.submit(function, *arguments)
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(self._done))  # at once where it is done already
        return await asyncio.wrap_future(work)

    def _done(self) -> None:
        self._number -= 1

    def close(self) -> None:
        """Takes nothing more; what has not begun is not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
