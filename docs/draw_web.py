"""Takes the pictures of docs/web.md in a real browser: `python docs/draw_web.py RUN RUN2`, two runs on one catalogue of films.

The page is started as a person would, spoken to, and photographed at the width of a desk and of a phone. Needs chromium.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WEBP_QUALITY = 86


@contextlib.contextmanager
def page_of(*runs: str) -> Iterator[str]:
    """The address of a page of these runs."""
    command = [sys.executable, "-m", "llmrec", "web", *runs, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.wait()


def talk(page: Page, address: str, picked: list[str], said: list[str]) -> None:
    """Opens the page, picks titles and says things, one after another."""
    page.goto(address)
    page.wait_for_selector(".card")
    for title in picked:
        page.locator("#search-box").press_sequentially(title)
        page.wait_for_selector("#search-found li")
        page.keyboard.press("Enter")
        settled(page)
    for message in said:
        page.fill("#say-box", message)
        page.locator("#say-box").press("Enter")
        settled(page)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def settled(page: Page) -> None:
    """Until the latest action is answered and every picture is there."""
    page.wait_for_function("!document.body.classList.contains('busy')")
    page.wait_for_function("[...document.images].every(one => one.complete)")
    page.wait_for_timeout(400)


def photograph(page: Page, name: str, **options: object) -> None:
    """Writes docs/NAME.webp."""
    Image.open(io.BytesIO(page.screenshot(**options))).save(DOCS / f"{name}.webp", quality=WEBP_QUALITY, method=6)


def main(run: str, other: str) -> None:
    """The four pictures."""
    picked, said = ["star wars", "fargo"], ["something funnier, not horror", "from the nineties"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        desk = browser.new_page(viewport=DESK)
        phone = browser.new_page(viewport=PHONE, is_mobile=True, has_touch=True, color_scheme="dark")
        with page_of(run) as address:
            talk(desk, address, picked, said)
            photograph(desk, "web_page")
            talk(phone, address, picked, said)
            phone.evaluate("scrollTo(0, document.querySelector('#talk').getBoundingClientRect().top - 12)")
            photograph(phone, "web_phone")
            desk.get_by_role("tab", name="Inside the model").click()
            desk.wait_for_selector(".views .rules")
            settled(desk)
            photograph(desk, "web_inside")
        with page_of(run, other) as address:
            talk(desk, address, picked, said[:1])
            photograph(desk, "web_two_runs")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
