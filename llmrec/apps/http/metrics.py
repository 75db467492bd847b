"""What the server counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from llmrec.apps.http.limits import Message, Receive, Send

disable_created_metrics()  # a second line for each figure, with the time of its first use
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """A registry of its own: several servers in one process do not mix."""

    def __init__(self, num_waiting: Callable[[], int], num_loads: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("llmrec_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "llmrec_request_seconds",
            "Seconds from a request's head to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.call_size = Histogram(
            "llmrec_call_requests", "Requests that one call of the model answered.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=registry,
        )  # fmt: skip
        self.call_seconds = Histogram(
            "llmrec_call_seconds", "Seconds of one call of the model.", buckets=_SECONDS, registry=registry
        )
        Gauge("llmrec_queue_length", "Requests that wait for the model.", registry=registry).set_function(num_waiting)
        Gauge("llmrec_model_loads", "Models loaded since the start.", registry=registry).set_function(num_loads)

    def on_call(self, num_requests: int, seconds: float) -> None:
        """Counts one call of the model."""
        self.call_size.observe(num_requests)
        self.call_seconds.observe(seconds)

    def page(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)


class Counting:
    """ASGI middleware: counts every request by route and status. Unknown routes are one."""

    def __init__(self, app: Any, metrics: Metrics, routes: Collection[str]) -> None:
        self.app, self.metrics, self.routes = app, metrics, routes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 499  # what stays where the client has gone before an answer

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception:
            status = 500
            raise
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - started)
