"""Servers that tests of this folder share; a test that changes one starts its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec.recommender import Recommender
from tests.apps.http.running import KEY, Client, Running, serving


@pytest.fixture(scope="session")
def served(tiny_run: Path) -> Iterator[Running]:
    """The run of one token an item, without a key; batches wait long enough for requests sent together to meet."""
    with serving(tiny_run, "batch.window_ms=100", "batch.size=8", "limits.body_bytes=200000") as running:
        yield running


@pytest.fixture
def client(served: Running) -> Client:
    """Asks it."""
    return served.client


@pytest.fixture(scope="session")
def locked(tiny_run: Path) -> Iterator[Running]:
    """The same with an API key, which its client knows."""
    with serving(tiny_run, key=KEY) as running:
        yield running


@pytest.fixture(scope="session")
def recommender(tiny_run: Path) -> Recommender:
    """The same run in Python."""
    return Recommender.from_pretrained(tiny_run)
