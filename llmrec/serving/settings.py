"""Settings of a server: how requests are gathered, and what is too much for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from llmrec.config import Settings

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]


class BatchSettings(Settings):
    """How requests of many users become calls of the model."""

    size: Annotated[int, Field(ge=1, le=256)] = 32  # requests that one call answers, at most; 1: each alone
    window_ms: Annotated[float, Field(ge=0, le=10_000)] = (
        5.0  # milliseconds that the first request of a batch waits for others
    )
    queue: Count = 256  # requests that may wait; more are refused with 429


class LimitSettings(Settings):
    """What is too much for one request, or too long."""

    body_bytes: Count = 1 << 20  # of a request's body; more is refused with 413
    header_seconds: Seconds = 10.0  # until a connection has sent the head of a request, else it is closed
    body_seconds: Seconds = 20.0  # until the whole body has come, else 408
    request_seconds: Seconds = 30.0  # until a request has its answer, else 504
    load_seconds: Seconds = 900.0  # the same for a reload and for added items, which load a model
    keep_alive_seconds: Seconds = 5.0  # an idle connection is kept
    connections: Count = 512  # open at once; beyond, the one idle longest makes room; where none is idle, 503
    max_k: Count = 100  # items of one list
    max_history: Count = 10_000  # entries of a history
    max_titles: Count = 100  # entries of one request that are no item ids and are looked up as titles
    max_listed: Count = 50_000  # ids in `candidates`, `exclude` or `in_stock`
    max_scored: Count = 1_000  # candidates that one request may have scored
    max_conditions: Count = 16  # in `where`
    max_condition: Count = 1_000  # characters of one of them
    max_instruction: Count = 1_000  # characters of an instruction
    max_new_items: Count = 1_000  # items that one request may add
    writings: Count = 8  # requests that may wait for the language model that writes; more are refused with 429


class ServingSettings(Settings):
    """Everything `llmrec serve` can be told but which run and engine, and where the API key is."""

    host: str = "127.0.0.1"  # address to listen at; another than this computer's own wants an API key
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000  # 0: any free one, which is printed
    name: str | None = None  # of the model in /v1/models and in answers; null: the run folder's
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
    runs_folder: Path | None = None  # POST /admin/reload loads runs in it; null: the run in service anew, and no other
    # folder in which a new run folder is written whenever items are added; null: added items end with the server
    keep_items: Path | None = None
    # a call of the model that takes longer counts as one that never ends: the model has failed, and is loaded again
    stuck_seconds: Seconds = 120.0
    # after a failed model could not be loaded again, until the next attempt; twice as long each time, a minute at most
    recovery_seconds: Seconds = 2.0
