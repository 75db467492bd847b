"""What a server refuses, each in the one shape with a sentence, and never as a mistake of its own."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.apps.http.running import KEY, Client, Running, serving, wait_until

LONG = "x" * 1000


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b'{"history": ["50"', 400, "should be JSON"),
        (b"\xff\xfe", 400, "should be JSON"),
        (b"[" * 100_000, 400, "should be JSON"),
        (b"", 422, "body"),
        (b"[]", 422, "JSON object"),
        (b'{"history": ["50"], "k": NaN}', 422, "'k'"),
        ({}, 422, "'history' is missing"),
        ({"history": "50"}, 422, "'history'"),
        ({"history": [50]}, 422, "'history.0' should be a valid string"),
        ({"history": ["50"], "k": 0}, 422, "'k'"),
        ({"history": ["50"], "k": True}, 422, "'k'"),
        ({"history": ["50"], "k": 10**6}, 422, "k may be 100 at most"),
        ({"history": ["50"], "k": 10**30}, 422, "k may be 100 at most"),
        ({"history": ["1"] * 10_001}, 422, "a history may have 10,000 at most"),
        ({"history": [LONG]}, 422, "is no item id and no title"),
        ({"history": ["no such"] * 101}, 422, "101 entries of the history are no item ids"),
        ({"history": ["\ud800"]}, 422, "is no item id and no title"),
        ({"history": ["\x00\x1b[31m"]}, 422, "is no item id and no title"),
        ({"history": [], "candidates": []}, 422, "the list of candidates is empty"),
        ({"history": [], "where": "genres"}, 422, "a filter should read like"),
        ({"history": [], "where": "colour=red"}, 422, "no column 'colour'"),
        ({"history": [], "where": ["genres=Comedy"] * 17}, 422, "'where' may have 16 at most"),
        ({"history": [], "in_stock": "colour"}, 422, "no column 'colour'"),
        ({"history": [], "in_stock": ["none of these"]}, 422, "is left by"),
        ({"history": [], "diversity": "mmr:7"}, 422, "MMR"),
        ({"history": [], "instruction": LONG * 2}, 422, "instruction may have 1,000"),
        ({"history": [], "where": "year>" + LONG}, 422, "characters of a condition may have 1,000"),
        ({"history": [1] * 50_000}, 422, "'history.0'"),
        ({"history": []} | {f"key {n}": 1 for n in range(5000)}, 422, "5001 keys"),
        ({"history": [], "in_stock": 3}, 422, "'in_stock'"),
        ({"history": [], "kk": 3}, 422, "has no 'kk'"),
    ],
)  # fmt: skip
def test_a_bad_list_request_is_one_sentence(client: Client, body, status, sentence):
    answer = client.post("/v1/recommend", body)
    assert answer.status == status, answer
    assert sentence in answer.sentence and len(answer.sentence) < 700, answer.sentence


def test_bad_requests_of_other_routes_are_sentences_too(client: Client):
    assert "'candidates'" in client.post("/v1/score", {"history": [], "candidates": []}).sentence
    assert "1,000 at most" in client.post("/v1/score", {"history": [], "candidates": ["1"] * 1001}).sentence
    assert client.post("/v1/explain", {"history": [], "item": "50"}).status == 422
    assert "no route '/nothing'" in client.get("/nothing").sentence
    assert client.get("/v1/recommend").status == 405 and client.get("/v1/recommend").sentence
    assert client.post("/v1/recommend/", {"history": []}).status == 404


def test_a_body_that_is_no_json_by_its_type_is_refused(client: Client):
    """A page of another origin can send text without asking the browser's leave."""
    answer = client.post("/v1/recommend", b'{"history": []}', Content_Type="text/plain")
    assert answer.status == 422 and "application/json" in answer.sentence


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_whether_or_not_its_length_is_announced(served: Running, chunked):
    size = 3_000_000
    with served.connect() as connection:
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        connection.sendall(
            b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
        )
        for _ in range(size // 100_000):
            piece = b" " * 100_000
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413") and "200,000 bytes" in json.loads(body)["error"]["message"]


def test_what_is_no_http_is_refused_in_the_same_shape(served: Running):
    with served.connect() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and json.loads(body)["error"]["type"] == "invalid_http"


def test_without_a_key_nobody_changes_the_model(client: Client):
    for path, body in (("/admin/reload", {}), ("/v1/items", {"items": [{"item_id": "n", "title": "New"}]})):
        answer = client.post(path, body)
        assert answer.status == 403 and "--api-key-file" in answer.sentence


def test_with_a_key_every_request_must_send_it(locked: Running):
    port = locked.client.port
    for wrong in (Client(port), Client(port, "another key"), Client(port, KEY + "x"), Client(port, "")):
        for answer in (
            wrong.recommend([]),
            wrong.get("/v1/models"),
            wrong.get("/metrics"),
            wrong.post("/admin/reload", {}),
        ):
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer" and answer.sentence
        assert wrong.get("/healthz").status == wrong.get("/readyz").status == 200
    assert locked.client.recommend(["50"]).status == 200


def test_only_runs_of_the_runs_folder_are_loaded(tiny_run, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tiny_run.parent)
    with serving(tiny_run, f"runs_folder={tmp_path / 'runs'}", key=KEY) as running:
        for name in (str(tiny_run), "../runs", "..", ".", "", "link/run", "nothing", "x" * 5000, "a\x00b"):
            answer = running.client.post("/admin/reload", {"run": name})
            assert answer.status == 422 and "runs folder" in answer.sentence, (name, answer)
        answer = running.client.post("/admin/reload", {"run": "empty"})
        assert answer.status == 422 and answer.json["error"]["type"] == "invalid_run"
        assert running.client.recommend(["50"]).status == 200


def test_a_full_queue_refuses_and_says_when_to_come_back(tiny_run):
    with serving(tiny_run, "batch.queue=2", "batch.size=1", "batch.window_ms=0") as running:
        answers = running.client.together([{"history": [str(n)]} for n in range(1, 33)])
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {200, 429}
        refused = answers[statuses.index(429)]
        assert int(refused.headers["retry-after"]) >= 1 and "wait already" in refused.sentence


def test_slow_clients_are_given_up_and_hold_nobody_up(tiny_run):
    with serving(tiny_run, "limits.header_seconds=0.5", "limits.body_seconds=0.7") as running:
        silent, dripping, bodiless = running.connect(), running.connect(), running.connect()
        dripping.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost")
        bodiless.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        assert running.client.recommend(["50"]).status == 200
        assert silent.recv(1) == b"" and dripping.recv(1) == b""
        assert bodiless.makefile("rb").read().startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started < 10


def test_beyond_the_bound_the_longest_idle_connection_makes_room(tiny_run):
    with serving(tiny_run, "limits.connections=4") as running:
        idle = [running.connect() for _ in range(4)]
        assert running.client.recommend(["50"]).status == 200
        assert idle[0].recv(1) == b"", "the first one came first"
        idle[3].settimeout(0.3)
        with pytest.raises(TimeoutError):
            idle[3].recv(1)
        for connection in idle:
            connection.close()


def test_where_all_connections_are_in_requests_another_is_refused_but_health_is_told(tiny_run):
    with serving(tiny_run, "limits.connections=4", "batch.window_ms=3000", "batch.size=8") as running:
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(running.client.recommend, ["50"]) for _ in range(4)]
            wait_until(lambda: running.service.holder.num_waiting == 4)
            answer = running.client.recommend(["50"])
            assert answer.status == 503 and "connections" in answer.sentence and answer.headers["connection"] == "close"
            assert running.client.get("/healthz").status == 200
            assert [answered.result().status for answered in asked] == [200] * 4
        assert running.client.get("/readyz").status == 200


@pytest.mark.slow
def test_a_thousand_idle_connections_hold_nobody_up(tiny_run):
    with serving(tiny_run, "limits.connections=200") as running:
        idle = [running.connect() for _ in range(1_000)]
        for connection in idle[::2]:
            connection.settimeout(0.01)
            with contextlib.suppress(OSError):
                connection.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-")
        assert [running.client.recommend(["50"]).status for _ in range(20)] == [200] * 20
        for connection in idle:
            connection.close()


def test_an_answer_that_takes_too_long_is_given_up(tiny_run):
    with serving(tiny_run, "limits.request_seconds=0.2", "batch.window_ms=2000", "batch.size=2") as running:
        answer = running.client.recommend(["50"])
        assert answer.status == 504 and "0.2 seconds" in answer.sentence
        assert running.client.metric("llmrec_queue_length") == 0  # nobody waits for it any more
