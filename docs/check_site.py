"""Checks the site that `make docs` has built: every link and image leads to what is there, and no page loads anything from elsewhere.

python docs/check_site.py build/docs
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
_RELATIONS_TO_PAGES = ("canonical", "author", "license", "index", "search", "next", "prev")


class Page(HTMLParser):
    """links: what a reader may follow; loaded: what a browser fetches for the page; anchors: where links may lead to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sorts one tag's addresses."""
        given = dict(attrs)
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        is_page = tag == "link" and given.get("rel") in _RELATIONS_TO_PAGES
        self.loaded += [
            given[name]
            for name in ("src", "href", "data")
            if (tag, name) in _LOADED and given.get(name) and not is_page
        ]


def problems(site: Path) -> list[str]:
    """One sentence for each link without an end, and each address outside the site that a page or a style loads."""
    page = cache(Page)
    found = []
    for path in sorted(site.glob("*.html")):
        for address in page(path).loaded:
            found += (
                [f"{path.name} loads {address} from elsewhere"]
                if urlsplit(address).netloc
                else _lost(path, address, page)
            )
        for address in page(path).links:
            found += [] if urlsplit(address).scheme else _lost(path, address, page)
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", path.read_text(encoding="utf-8")
        ):
            found.append(f"{path.name} loads {address} from elsewhere")
    return found


def _lost(path: Path, address: str, page) -> list[str]:
    parts = urlsplit(address)
    target = path.parent / unquote(parts.path) if parts.path else path
    if parts.scheme == "data":
        return []
    if not target.is_file():
        return [f"{path.name} points to {address}, which is not there"]
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in page(target).anchors:
        return [f"{path.name} points to {address}, where there is no such place"]
    return []


if __name__ == "__main__":
    sentences = problems(Path(sys.argv[1]))
    print("\n".join(sentences) or "Every link of the site leads somewhere, and nothing is loaded from elsewhere.")
    sys.exit(bool(sentences))
