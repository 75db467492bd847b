"""urllib with one time limit for a whole request: a `timeout` of Python's sockets begins anew with every byte that comes."""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from functools import partial
from typing import Any


def timed_opener() -> urllib.request.OpenerDirector:
    """An opener whose `open(request, timeout=S)` and the reading of what it returns raise TimeoutError once S seconds have passed since
    the request began, whatever trickles: status, headers or body. (Before that, each address of the server may take S seconds to
    connect.) It follows no redirect, which would carry a key to another host: urllib raises it as an error.
    """
    return urllib.request.build_opener(_NoRedirect, _HttpHandler, _HttpsHandler)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None: no redirect is followed."""


class _Timed(http.client.HTTPConnection):
    """A connection that ends `timeout` seconds after it was made, and so does the response it reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.end = time.monotonic() + self.timeout
        self.response_class = partial(_TimedResponse, end=self.end)

    def connect(self) -> None:
        """Connects, and leaves what is left of the time to sending."""
        super().connect()
        self.sock.settimeout(_seconds_until(self.end))


class _TimedHttps(_Timed, http.client.HTTPSConnection):
    """The same over TLS."""


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See AbstractHTTPHandler."""
        return self.do_open(_Timed, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See AbstractHTTPHandler."""
        return self.do_open(_TimedHttps, req)


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, end: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedBytes(self.fp.detach(), sock, end))


class _TimedBytes(io.RawIOBase):
    """Bytes of a socket; each wait for more is only as long as the time that is left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, end: float) -> None:
        self.raw, self.sock, self.end = raw, sock, end

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See RawIOBase."""
        self.sock.settimeout(_seconds_until(self.end))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        """Closes the socket's side, too."""
        self.raw.close()
        super().close()


def _seconds_until(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
