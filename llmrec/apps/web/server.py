"""The page's server: FastAPI with Gradio at its root, the items' pictures, and the guard before both."""

from __future__ import annotations

import socket

import gradio as gr
import uvicorn
from fastapi import FastAPI, Response

from llmrec.apps.listening import is_this_computer
from llmrec.apps.web.guard import Guard
from llmrec.apps.web.page import make_page, theme
from llmrec.apps.web.panels import STATIC
from llmrec.apps.web.runs import Shelf

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def make_app(shelf: Shelf, host: str) -> Guard:
    """The ASGI app. host: where it listens; on this computer alone, only its own names are answered to."""
    app = FastAPI(title="llmrec", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/picture/{item}")
    def picture(item: int) -> Response:
        if not 0 <= item < shelf.catalog.num_items:
            return Response(status_code=404)
        found = shelf.pictures.of(item)
        # An SVG opened by itself is a page: it may then load and run nothing.
        policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        return Response(
            found.content,
            media_type=found.kind,
            headers={"Cache-Control": "private, max-age=3600", "Content-Security-Policy": policy},
        )

    gr.mount_gradio_app(
        app, make_page(shelf), path="/", footer_links=[], run_history=False, allowed_paths=[], max_file_size=1, ssr_mode=False,
        show_error=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme(), css=(STATIC / "page.css").read_text(),
        js=(STATIC / "busy.js").read_text(),
    )  # fmt: skip
    return Guard(app, _OWN_NAMES | {host.strip("[]").lower()} if is_this_computer(host) else None)


class Server:
    """One page being served; `run` may be called in any thread."""

    def __init__(self, shelf: Shelf, host: str, listening: socket.socket) -> None:
        self._listening = listening
        config = uvicorn.Config(
            make_app(shelf, host), loop="asyncio", lifespan="on", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=2, limit_concurrency=512,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self._server.started

    def run(self) -> None:
        """Serves until it is stopped."""
        self._server.run(sockets=[self._listening])

    def stop(self) -> None:
        """Lets `run` return. From any thread."""
        self._server.should_exit = True
