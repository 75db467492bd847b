"""What every request passes before Gradio sees it: only the routes the page needs, bodies of a bounded size, names of this computer.

Gradio brings routes that read files, take uploads, proxy addresses and describe an API. None of them is needed here, so all but a short
list are answered 404; a new version of Gradio opens nothing by itself. Every answer says, in a Content-Security-Policy, that the page
loads nothing from elsewhere, which the browser then enforces.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from starlette.responses import JSONResponse

from llmrec.apps.asgi import Message, Receive, Send, replayed

BODY_BYTES = 64 << 10  # an action or a message is a few hundred
_TOO_LONG = (413, f"a message may have {BODY_BYTES:,} bytes, and this one has more.")
_DISCARD_SECONDS = 2.0
_API = "/gradio_api"
_GET = re.compile(
    rf"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/pwa_icon(/\d+)?|/picture/\d+|/(assets|static|svelte)/[\w./@+-]+"
    rf"|{_API}/(startup-events|app_id/?|theme\.css|queue/data|heartbeat/\w+)"
)
_POST = re.compile(rf"{_API}/(queue/join/?|component_server/?|reset/?|cancel/?)")
POLICY = (
    # Gradio's bundle makes functions from text and styles in place; pictures drawn in place are data: addresses.
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """ASGI middleware. names: hosts that a request may be addressed to, None for any."""

    def __init__(self, app: Any, names: frozenset[str] | None) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refused = self._refusal(scope["method"], scope["path"], headers)
        body = await _body(receive) if refused is None and scope["method"] == "POST" else b""
        if body is None:
            refused = _TOO_LONG
        if refused is not None:
            await _discard(receive)
            await _answer(*refused)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self.app(scope, replayed(body, receive), sent)

    def _refusal(self, method: str, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and sentence, None for a request that may pass."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.names is not None and _without_port(host) not in self.names:
            # a page elsewhere whose name was made to lead here
            return 421, "this server answers to the name it was started with."
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(method)
        if allowed is None or not allowed.fullmatch(path) or ".." in path:
            return 404, "there is no such page."
        origin = headers.get(b"origin", b"").decode("latin-1")
        if method == "POST" and origin and origin.partition("://")[2] != host:
            return 403, "only this server's own page may send actions."
        if int(headers.get(b"content-length", b"0")[:20] or b"0") > BODY_BYTES:
            return _TOO_LONG
        return None


def _answer(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers={"Connection": "close"})


def _without_port(host: str) -> str:
    return re.sub(r":\d+$", "", host).strip("[]").lower()


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None where it is too long or its sender has gone."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        more, part = message.get("more_body", False), message.get("body", b"")
        size += len(part)
        if size > BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Reads what is left of a body for a moment: who is cut off while sending often sees no answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
