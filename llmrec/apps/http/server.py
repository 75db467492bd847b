"""A server's life: it listens, loads the model, answers, and when told to stop finishes what it took."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from llmrec.apps.http.app import make_app
from llmrec.apps.http.connections import protocol_of
from llmrec.apps.http.service import Service


@contextlib.contextmanager
def _no_end_by_sigterm() -> Iterator[None]:
    """uvicorn raises the signal again once it has finished everything; then it is to end the process no more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Server:
    """One server, from listening to the end. `run` may be called in any thread; signals reach it in the main one alone."""

    def __init__(self, service: Service, run: Path, listening: socket.socket, on_ready: Callable[[], None]) -> None:
        """run: what is loaded first; on_ready: called once it is."""
        self._service, self._run, self._listening, self._on_ready = service, run, listening, on_ready
        self._failure: BaseException | None = None
        limits = service.settings.limits
        config = uvicorn.Config(
            make_app(service, self._lifespan),
            loop="asyncio", http=protocol_of(limits), ws="none", lifespan="on", interface="asgi3",
            log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=limits.request_seconds + limits.body_seconds,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serves until it is stopped. Raises what loading the first model raised."""
        with _no_end_by_sigterm():
            self._server.run(sockets=[self._listening])
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Lets `run` finish what was taken and return. From any thread."""
        self._server.should_exit = True

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(self._load())
        try:
            yield
        finally:
            loading.cancel()
            await self._service.close()

    async def _load(self) -> None:
        try:
            await self._service.holder.start(self._run)
        except Exception as error:
            self._failure = error
            self.stop()
        else:
            self._on_ready()
