"""A real HTTP server in a thread that answers chat completions as a test says, well or badly; also as a program of its own."""

import contextlib
import json
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[
    [dict, int], "Reply | str"
]  # (request body, how many came before) -> what to send; a text is a good answer
DROP = -1  # in place of a status: the connection is closed without a word


@dataclass
class Reply:
    """Status, body, headers, and the seconds before they are sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0


def completion(text: str | None, finish: str = "stop") -> Reply:
    """A good answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    return Reply(body=json.dumps({"choices": [choice], "usage": usage}).encode())


class ChatServer:
    """`with ChatServer(answer) as server:` serves at server.url; what came is in server.bodies and server.headers."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.most_at_once = 0
        self._at_once, self._lock, self.answer = 0, threading.Lock(), answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.serve(self)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length") or 0)) or "{}")
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.answer(body, number)
            reply = completion(reply) if isinstance(reply, str) else reply
            time.sleep(reply.wait)
        finally:
            with self._lock:
                self._at_once -= 1
        if reply.status == DROP:
            handler.connection.close()
            return
        with contextlib.suppress(ConnectionError):  # whoever asked may be gone
            handler.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(reply.body)

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def question(body: dict) -> str:
    """What the last message asks."""
    return body["messages"][-1]["content"]


def good_text(body: dict, number: int = 0) -> str:
    """A text that is this question's own and passes every check."""
    words = ["quiet", "loud", "slow", "quick", "gentle", "fierce", "bright", "sombre", "odd", "plain", "warm", "cold"]
    digits = [int(digit, 16) % len(words) for digit in f"{hash_of(question(body)):08x}"]
    return f"It is about {', '.join(words[d] + ' ' + str(place) for place, d in enumerate(digits))}. People enjoy it."


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return zlib.crc32(text.encode())
