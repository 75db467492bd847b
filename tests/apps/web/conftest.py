"""One browser and two pages for all tests of this folder: two real runs side by side, and an invented catalogue of odd titles."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmrec.apps.listening import listen
from llmrec.baselines.popularity import Popularity
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.recommender import Recommender

ODD_TITLES = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'>",
    "${window.pwned = 3}",
    "{{ 7 * 7 }} {% raw %}",
    "\"><button data-do='reset'>Press me</button>",
    "Plain",
    "A title that goes on " * 12,
    "Одиссея 日本 عنوان",
]


@dataclass
class Page:
    """A page that is served. address: of its root."""

    address: str
    shelf: object

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])


def served(shelf) -> Iterator[Page]:
    """A page of a shelf on a free port, ended at the end."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from llmrec.apps.web.server import Server

    listening = listen("127.0.0.1", 0)
    server = Server(shelf, "127.0.0.1", listening)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.is_ready:
        assert time.monotonic() < end and thread.is_alive(), "the page did not start"
        time.sleep(0.05)
    try:
        yield Page(f"http://127.0.0.1:{listening.getsockname()[1]}", shelf)
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def two_runs(tiny_run: Path, tiny_code_run: Path):
    """A shelf of a run of one token an item, and one of semantic ids that are searched with beams."""
    from llmrec.apps.web.runs import shelf_of

    return shelf_of(
        [tiny_run, tiny_code_run], [Recommender.from_pretrained(run) for run in (tiny_run, tiny_code_run)], None
    )


@pytest.fixture(scope="session")
def page_of_two(two_runs) -> Iterator[Page]:
    """Its page."""
    yield from served(two_runs)


@pytest.fixture(scope="session")
def odd_shelf(tmp_path_factory: pytest.TempPathFactory):
    """A baseline over titles that are markup, long, of other scripts; two have pictures, one leads out of the data folder."""
    from llmrec.apps.web.runs import Shelf, ShownRun

    data = tmp_path_factory.mktemp("odd")
    Image.new("RGB", (900, 300), "navy").save(data / "wide.png")
    (data / "broken.png").write_bytes(b"\x89PNG no more")
    Image.new("RGB", (10, 10), "red").save(data.parent / "secret.png")
    images = [None, None, None, "broken.png", "../secret.png", "wide.png", None, None]
    catalog = Catalog.from_rows(
        [
            {"item_id": f"i{n}", "title": title, "image": image}
            for n, (title, image) in enumerate(zip(ODD_TITLES, images, strict=True))
        ]
    )
    num_items = len(ODD_TITLES)
    events = Interactions(np.array([0, num_items]), np.arange(num_items, dtype=np.int32), num_items)
    recommender = Recommender(
        Popularity().fit(events), catalog, item_vectors=np.eye(num_items, dtype=np.float32).__getitem__
    )
    return Shelf((ShownRun("odd", recommender),), data)


@pytest.fixture(scope="session")
def odd_page(odd_shelf) -> Iterator[Page]:
    """Its page."""
    yield from served(odd_shelf)


@pytest.fixture(scope="module")
def chromium():
    """A real browser; in CI its absence is a failure, elsewhere a skip.

    For a module only: as long as playwright runs, this thread has a running event loop, and nobody else can begin one.
    """
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    if found is None:
        reason = "no chromium to open the page with: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One visitor's browser window. elsewhere: addresses asked for that are not the page's own; errors: of its console."""

    page: object
    elsewhere: list[str]
    errors: list[str]

    def settled(self) -> None:
        """Until the latest action has been answered."""
        self.page.wait_for_function("!document.body.classList.contains('busy')")

    def pick(self, typed: str) -> None:
        """Types into the search box and takes the first title."""
        self.page.locator("#search-box").press_sequentially(typed)
        self.page.wait_for_selector("#search-found li")
        self.page.keyboard.press("Enter")
        self.settled()

    def say(self, message: str) -> str:
        """Sends a message and returns the reply."""
        before = self.page.locator("#talk .user").count()
        self.page.fill("#say-box", message)
        self.page.locator("#say-box").press("Enter")
        self.page.wait_for_function(f"document.querySelectorAll('#talk .assistant:not(.wait)').length > {before}")
        self.settled()
        return self.page.locator("#talk .assistant").last.text_content().partition("llmrec: ")[2]

    def titles(self, place: int = 0) -> list[str]:
        """The titles on the cards of one list."""
        return self.page.locator("#cards section").nth(place).locator(".card h3").all_inner_texts()


@pytest.fixture
def visit(chromium):
    """Opens a page for one visitor: visit(page, width, height). At the end nothing was asked of anybody else, and no script failed."""
    contexts, visitors = [], []

    def open_page(page: Page, width: int = 1280, height: int = 900) -> Visitor:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, is_mobile=width < 500, has_touch=width < 500
        )
        contexts.append(context)
        window = context.new_page()
        visitor = Visitor(window, [], [])
        visitors.append(visitor)
        window.on("request", lambda one: visitor.elsewhere.append(one.url) if not _is_own(one.url, page) else None)
        window.on("console", lambda one: visitor.errors.append(one.text) if one.type == "error" else None)
        window.on("pageerror", lambda one: visitor.errors.append(str(one)))
        window.goto(page.address)
        window.wait_for_selector(".card")
        return visitor

    yield open_page
    for context in contexts:
        context.close()
    for visitor in visitors:
        assert visitor.elsewhere == [] and visitor.errors == []


def _is_own(address: str, page: Page) -> bool:
    return address.startswith((page.address + "/", "data:", "blob:"))
