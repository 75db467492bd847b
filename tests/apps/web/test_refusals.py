"""What the page's server refuses: everything that the page does not need."""

import http.client
import json

import pytest

pytestmark = pytest.mark.slow


def ask(page, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/info"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/monitoring"),
        ("GET", "/assets/../../../../etc/passwd"),
        ("GET", "/static/..%2f..%2f..%2fetc/passwd"),
        ("GET", "/picture/..%2fsecret.png"),
        ("GET", "/picture/999999"),
        ("GET", "/picture/-1"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/do"),
        ("PUT", "/"),
    ],
)
def test_routes_that_the_page_does_not_need_are_not_there(odd_page, method, path):
    status, body = ask(odd_page, method, path, b"{}" if method == "POST" else None)
    assert status == 404 and b"root:" not in body


def test_a_message_of_a_megabyte_is_refused_and_the_page_lives_on(odd_page):
    body = json.dumps({"data": ["x" * 1_000_000]}).encode()
    status, answer = ask(odd_page, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
    assert status == 413 and b"a message may have 65,536 bytes" in answer
    assert ask(odd_page, "GET", "/")[0] == 200


def test_a_body_that_announces_no_length_is_refused_when_it_grows(odd_page):
    connection = http.client.HTTPConnection("127.0.0.1", odd_page.port, timeout=30)
    connection.request(
        "POST",
        "/gradio_api/queue/join",
        iter([b"x" * 50_000] * 3),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_only_this_computer_s_names_and_its_own_page_are_answered(odd_page):
    assert ask(odd_page, "GET", "/", Host="evil.example:7860")[0] == 421
    assert ask(odd_page, "GET", "/", Host=f"localhost:{odd_page.port}")[0] == 200
    status, _ = ask(
        odd_page, "POST", "/gradio_api/queue/join", b"{}", Origin="http://evil.example", Content_Type="application/json"
    )
    assert status == 403


def test_every_answer_forbids_the_page_to_load_anything_from_elsewhere(odd_page):
    connection = http.client.HTTPConnection("127.0.0.1", odd_page.port, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    connection.close()
    assert policy.startswith("default-src 'self'") and "connect-src 'self'" in policy and "http" not in policy
    assert "fonts.googleapis.com/css" not in page
