"""A real server on a free port, in a thread of this process, and a client that asks it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.apps.http.server import Server
from llmrec.apps.http.service import Service
from llmrec.apps.listening import listen
from llmrec.apps.options import Decoder
from llmrec.config import load_config
from llmrec.serving.settings import ServingSettings

KEY = "a key of tests"


@dataclass
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str] = field(repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON, whatever the status."""
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        """The sentence of an error, whose shape is checked."""
        error = self.json["error"]
        assert set(self.json) == {"error"} and error["message"].endswith(".") and error["type"], error
        return error["message"]


class Client:
    """Asks a server; key: sent with every request."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port, self.key = port, key

    def get(self, path: str) -> Answer:
        """GET."""
        return self._ask(urllib.request.Request(self._url(path)))

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """POST of JSON, or of bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self._ask(urllib.request.Request(self._url(path), data, headers))

    def recommend(self, history: list[str], **more: Any) -> Answer:
        """POST /v1/recommend."""
        return self.post("/v1/recommend", {"history": history, **more})

    def together(self, bodies: list[dict[str, Any]], path: str = "/v1/recommend") -> list[Answer]:
        """All at once, each over a connection of its own."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            return list(threads.map(lambda body: self.post(path, body), bodies))

    def metric(self, line: str) -> float:
        """The value of a line of /metrics, 0 where it is not there yet."""
        for found in self.get("/metrics").body.decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        return 0.0

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _ask(self, request: urllib.request.Request) -> Answer:
        if self.key is not None:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read(), _lower(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), _lower(error.headers))


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass
class Running:
    """A server that runs. client: sends the right key where the server has one."""

    server: Server
    service: Service
    client: Client
    thread: threading.Thread

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.client.port), timeout=60)


@contextlib.contextmanager
def serving(run: Path, *overrides: str, key: str | None = None) -> Iterator[Running]:
    """A server of a run, ready; stopped at the end."""
    settings = load_config(ServingSettings, None, list(overrides))
    service = Service(Decoder(device="cpu").open, settings, api_key=key)
    listening, ready = listen("127.0.0.1", 0), threading.Event()
    server = Server(service, run, listening, ready.set)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert ready.wait(120), "the model was not loaded"
        yield Running(server, service, Client(port, key), thread)
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def wait_until(true: Any, seconds: float = 30.0) -> None:
    """Until `true()` is; a failure after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
