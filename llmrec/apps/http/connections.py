"""HTTP connections with bounds that uvicorn does not have: a time for the head of a request, and how many there may be.

Nobody may hold one open by sending nothing, or a byte now and then. Beyond the bound the connection that has waited longest for a head
makes room; where all are in requests, the new one is answered 503 (but for /healthz: a busy server is no dead one) and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmrec.apps.http.errors import error_response
from llmrec.serving.settings import LimitSettings


def protocol_of(limits: LimitSettings) -> type[H11Protocol]:
    """The protocol class that uvicorn makes one of for every connection."""

    class BoundedProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None
        _idle_since = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._idle_since = self.loop.time()
            if len(self.connections) > limits.connections and not self._make_room():
                self.app = _closing(self.app)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._in_a_request:
                self._stop_timer()
            elif self._head_timer is None:
                self._await_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._idle_since = self.loop.time()
            if (
                self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
            ):  # the beginning of the next head has come already
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            response = error_response(
                400, "invalid_http", "this is no valid HTTP request.", headers={"Connection": "close"}
            )
            with contextlib.suppress(h11.LocalProtocolError):  # an answer to an earlier request is under way
                self.transport.write(
                    self.conn.send(h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request"))
                    + self.conn.send(h11.Data(data=response.body))
                    + self.conn.send(h11.EndOfMessage())
                )
            self.transport.close()

        def _make_room(self) -> bool:
            """Closes the connection that has been idle longest. Whether there was one."""
            idle = [other for other in self.connections if other is not self and not other._in_a_request]
            if not idle:
                return False
            longest = min(idle, key=lambda other: other._idle_since)
            self.connections.discard(longest)
            longest.transport.close()
            return True

        @property
        def _in_a_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _await_head(self) -> None:
            self._stop_timer()
            self._head_timer = self.loop.call_later(limits.header_seconds, self._close_slow)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _close_slow(self) -> None:
            self._head_timer = None
            if not self._in_a_request:
                self.transport.close()

    return BoundedProtocol


def _closing(app: Any) -> Any:
    async def too_many(scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            message = "too many connections are open. Try again later, and keep connections for several requests."
            app_ = error_response(
                503, "too_many_connections", message, headers={"Retry-After": "2", "Connection": "close"}
            )
            await app_(scope, receive, send)
        else:
            await app(scope, receive, send)

    return too_many
