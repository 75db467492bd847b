"""Gathers requests that arrive one by one into batches, and has one thread answer them.

The first request of a batch waits `window_ms` for others; while the model works, those that arrive wait anyway and the next batch
starts as soon as it is free. Within a batch, requests that can share a call do.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from llmrec.serving.errors import BusyError, NotReadyError
from llmrec.serving.settings import BatchSettings

_SMOOTHING = 0.2  # weight of the latest batch in the mean that Retry-After is made of


class Request(Protocol):
    """What a batcher gathers. sharing: requests that are equal in it may be answered by one call."""

    @property
    def sharing(self) -> Hashable: ...


Answers = Callable[[Sequence[Any]], list[Any]]


class Batcher:
    """One queue, one thread that answers. Everything but `answers` runs on the event loop."""

    def __init__(
        self,
        answers: Answers,
        executor: Executor,
        settings: BatchSettings,
        on_call: Callable[[int, float], None] = lambda num_requests, seconds: None,
    ) -> None:
        """answers: requests that share a call -> for each its answer, or the exception it gets; called by `executor`, of one thread.

        on_call: is told of every call how many requests it answered and the seconds it took.
        """
        self._answers, self._executor, self._settings, self._on_call = answers, executor, settings, on_call
        self._waiting: dict[asyncio.Future[Any], tuple[Request, float]] = {}  # in order of arrival
        self._arrived = asyncio.Event()
        self._batch_seconds = 0.0
        self._in_call: list[asyncio.Future[Any]] = []
        self._open, self._busy_since = True, None
        self._task = asyncio.get_running_loop().create_task(self._work())

    def __len__(self) -> int:
        """The requests that wait."""
        return len(self._waiting)

    @property
    def busy_seconds(self) -> float:
        """How long the batch that is being answered has taken so far; 0 where none is."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    async def ask(self, request: Request) -> Any:
        """The answer to one request. Whoever stops waiting (`asyncio.timeout`) takes it out of the queue.

        Raises BusyError where the queue is full, NotReadyError where the batcher is closed, and what `answers` gave for it.
        """
        if not self._open:
            raise NotReadyError("the server is stopping. Ask again when it is back.")
        if len(self._waiting) >= self._settings.queue:
            raise BusyError(
                f"{len(self._waiting)} requests wait already, and no more may. Try again later.", self._retry_after()
            )
        answer = asyncio.get_running_loop().create_future()
        self._waiting[answer] = request, time.monotonic()
        self._arrived.set()
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    async def close(self) -> None:
        """Answers what waits, takes nothing more, and ends."""
        self._open = False
        self._arrived.set()
        await self._task

    def abandon(self, error: Exception) -> None:
        """Gives everybody who waits the error, whatever the thread that answers is doing, and takes nothing more."""
        self._open = False
        self._task.cancel()
        for answer in [*self._waiting, *self._in_call]:
            if not answer.done():
                answer.set_exception(error)

    def _retry_after(self) -> int:
        batches = math.ceil(len(self._waiting) / self._settings.size)
        return max(1, math.ceil(batches * self._batch_seconds))

    async def _work(self) -> None:
        while await self._some_wait():
            taken = list(self._waiting.items())[: self._settings.size]
            calls: dict[Hashable, list[tuple[asyncio.Future[Any], Request]]] = {}
            for answer, (request, _) in taken:
                del self._waiting[answer]
                calls.setdefault(request.sharing, []).append((answer, request))
            self._busy_since = time.monotonic()
            for call in calls.values():
                await self._answer(call)
            took = self.busy_seconds
            self._batch_seconds += (_SMOOTHING if self._batch_seconds else 1.0) * (took - self._batch_seconds)
            self._busy_since = None

    async def _some_wait(self) -> bool:
        """Until a batch can start; False once the batcher is closed and nothing waits."""
        while not self._waiting:
            if not self._open:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        until = next(iter(self._waiting.values()))[1] + self._settings.window_ms / 1000
        while self._open and len(self._waiting) < self._settings.size and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                break
        return True

    async def _answer(self, call: list[tuple[asyncio.Future[Any], Request]]) -> None:
        call = [
            (answer, request) for answer, request in call if not answer.done()
        ]  # nobody waits for the others any more
        if not call:
            return
        started, loop = time.monotonic(), asyncio.get_running_loop()
        self._in_call = [answer for answer, _ in call]
        try:
            found = await loop.run_in_executor(self._executor, self._answers, [request for _, request in call])
        except Exception as error:
            found = [error] * len(call)
        self._on_call(len(call), time.monotonic() - started)
        for (answer, _), value in zip(call, found, strict=True):
            if answer.done():
                continue
            if isinstance(value, Exception):
                answer.set_exception(value)
            else:
                answer.set_result(value)
