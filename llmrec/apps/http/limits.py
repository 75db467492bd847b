"""What every request passes before a route sees it: the API key, the size and time of its body, the time of its answer."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi.responses import JSONResponse

from llmrec.apps.asgi import Message, Receive, Send, replayed
from llmrec.apps.http.errors import error_response
from llmrec.apps.http.keys import refusal
from llmrec.serving.settings import LimitSettings

_DISCARD_SECONDS = 2.0
LOADING = ("/admin/reload", "/v1/items")  # routes that load a model


class Guard:
    """ASGI middleware. A body is read whole before the route is called, so no route waits for a slow client."""

    def __init__(self, app: Any, limits: LimitSettings, api_key: str | None) -> None:
        self.app, self.limits, self.api_key = app, limits, api_key

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refused = refusal(self.api_key, scope["method"], scope["path"], headers.get(b"authorization"))
        body = await self._body(headers, receive, self.limits.body_bytes if refused is None else 0)
        if body is None:  # the client has gone
            return
        if refused is None and isinstance(body, bytes):
            await self._answered(scope, replayed(body, receive), send)
            return
        answer = refused or body
        answer.headers["Connection"] = "close"  # some of the body may be unread
        await answer(scope, receive, send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes | JSONResponse | None:
        """The body, the refusal of one too large or too slow, or None where the client has gone.

        Of one too large the rest is read for a moment: a client that is cut off while it sends often sees no answer.
        """
        announced = headers.get(b"content-length", b"")
        size = int(announced[:20]) if announced.isdigit() and int(announced[:20]) > most else 0
        parts, seconds = [], self.limits.body_seconds if size <= most else _DISCARD_SECONDS
        try:
            async with asyncio.timeout(seconds) as deadline:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    more, part = message.get("more_body", False), message.get("body", b"")
                    if size <= most < size + len(part):
                        deadline.reschedule(asyncio.get_running_loop().time() + _DISCARD_SECONDS)
                    size += len(part)
                    if size <= most:
                        parts.append(part)
        except TimeoutError:
            if size <= most:
                message = f"the body did not come within {seconds:g} seconds. Send it faster, or less of it."
                return error_response(408, "slow_body", message)
        if size <= most:
            return b"".join(parts)
        message = f"a request's body may have {most:,} bytes, and this one has more."
        return error_response(413, "body_too_large", message)

    async def _answered(self, scope: Message, receive: Receive, send: Send) -> None:
        """The route's answer, begun in time; once it has begun, a client that does not read it is given up."""
        limits, started = self.limits, False
        seconds = limits.load_seconds if scope["path"] in LOADING else limits.request_seconds

        async def sent(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                deadline.reschedule(None)
            async with asyncio.timeout(limits.body_seconds):
                await send(message)

        try:
            async with asyncio.timeout(seconds) as deadline:
                await self.app(scope, receive, sent)
        except TimeoutError:
            if started:
                return  # uvicorn closes a connection whose answer is not finished
            message = f"there was no answer within {seconds:g} seconds. Ask for less, or when fewer others ask."
            await error_response(504, "too_slow", message)(scope, receive, send)
