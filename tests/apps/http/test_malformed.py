"""Thousands of malformed requests: each gets an answer in words, none is a mistake of the server's, and others are answered on."""

import http.client
import json
import os

import pytest

from tests.apps.http.malformed import Sent, malformed
from tests.apps.http.running import KEY, Running

NUMBER = int(os.environ.get("LLMREC_FUZZ_REQUESTS", "300"))  # 10,000 take some minutes


class Asking:
    """One connection, opened again where the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port, self.connection = port, None

    def ask(self, sent: Sent) -> tuple[int, bytes]:
        for attempt in range(2):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self.connection.request(
                    sent.method, sent.path, sent.body, {"Authorization": f"Bearer {KEY}"} | sent.headers
                )
                answer = self.connection.getresponse()
                status, body = answer.status, answer.read()
            except (
                ConnectionError,
                http.client.RemoteDisconnected,
            ):  # an idle or refused connection was closed meanwhile
                self.connection.close()
                self.connection = None
                assert not fresh and attempt == 0, f"no answer to {sent!r:.2000}"
                continue
            if answer.will_close:
                self.connection.close()
                self.connection = None
            return status, body
        raise AssertionError


@pytest.mark.slow
def test_no_malformed_request_is_a_mistake_of_the_servers(locked: Running):
    asking = Asking(locked.client.port)
    seen: dict[int, int] = {}
    for number, sent in enumerate(malformed(seed=13, number=NUMBER)):
        status, body = asking.ask(sent)
        seen[status] = seen.get(status, 0) + 1
        where = f"request {number}: {sent!r:.3000} -> {status} {body!r:.500}"
        assert status in (200, 400, 401, 403, 404, 405, 411, 413, 415, 422), where
        if status != 200 and sent.method != "HEAD":
            error = json.loads(body)["error"]
            assert error["type"] and error["message"].endswith(".") and len(error["message"]) < 2_000, where
            assert "Traceback" not in error["message"] and "\x1b" not in error["message"], where
    assert locked.client.get("/readyz").status == 200
    assert locked.client.recommend(["50"]).status == 200
    assert seen.get(200, 0) > NUMBER / 50 and seen[422] > NUMBER / 10 and seen[400] > NUMBER / 50, seen
    if NUMBER > 300:
        print(f"{NUMBER} malformed requests: {dict(sorted(seen.items()))}")


def test_the_generator_repeats_itself():
    assert list(malformed(7, 30)) == list(malformed(7, 30)) != list(malformed(8, 30))
