"""What clients call items: ids or titles, made into ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from llmrec.data.catalog import Catalog
from llmrec.data.title_search import MAX_QUERY_CHARACTERS, Match, TitleSearch
from llmrec.errors import RequestError
from llmrec.terminal import printable

NEAREST = 5  # items named for a title that is not clear
_REFUSED = 3  # titles that are not clear, after which the others are not looked up
_KEPT = 4096  # looked-up titles that are remembered
_SHOWN = 60  # characters of what came, in a sentence


class UnknownItemError(RequestError):
    """Names that are no item, or more than one. nearest: each of these names -> the items it may mean, as ids and titles."""

    def __init__(self, message: str, nearest: dict[str, list[dict[str, str]]]) -> None:
        super().__init__(message)
        self.nearest = nearest


class ItemNames:
    """Ids and titles of one catalogue. The index of titles is made when a title is first looked up."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._found = lru_cache(_KEPT)(lambda title: self.search.find(title))

    @cached_property
    def search(self) -> TitleSearch:
        """The index of titles."""
        return TitleSearch(self.catalog)

    def all_ids(self, names: Sequence[str]) -> bool:
        """Whether all names are item ids, so that nothing has to be looked up."""
        return bool(self.catalog.contains(names).all())

    def find(self, title: str) -> Match:
        """What a title may mean."""
        return self._found(title[:MAX_QUERY_CHARACTERS])  # what is remembered is short, too

    def ids(self, names: Sequence[str], what: str, most_titles: int) -> list[str]:
        """The item ids of names, each an id or else a title that means one item.

        Raises UnknownItemError for a title that is unknown or means several items, RequestError for more than `most_titles` titles.
        """
        found = list(names)
        titles = [place for place, known in enumerate(self.catalog.contains(names)) if not known]
        if len(titles) > most_titles:
            raise RequestError(
                f"{len(titles)} entries of {what} are no item ids, the first is '{_short(names[titles[0]])}'. Up to {most_titles} may "
                "be titles; give ids for the others."
            )
        unclear: dict[str, Match] = {}
        for place in titles:
            match = self.find(names[place])
            if match.kind == "sure":
                found[place] = self.catalog.item_id(match.items[0])
            else:
                unclear[names[place]] = match
                if len(unclear) == _REFUSED:
                    break
        if unclear:
            raise UnknownItemError(
                self._sentence(unclear),
                {name[:MAX_QUERY_CHARACTERS]: self.shown(match) for name, match in unclear.items()},
            )
        return found

    def shown(self, match: Match, limit: int = NEAREST) -> list[dict[str, str]]:
        """The first items of a match, as ids and titles."""
        catalog = self.catalog
        return [
            {"item_id": catalog.item_id(item), "title": catalog.title(item) or catalog.item_id(item)}
            for item in match.items[:limit]
        ]

    def _sentence(self, unclear: dict[str, Match]) -> str:
        parts = []
        for name, match in unclear.items():
            near = ", ".join(f"'{_short(item['title'])}' (id {_short(item['item_id'])})" for item in self.shown(match))
            if match.kind == "open":
                parts.append(f"'{_short(name)}' may mean {near}")
            else:
                parts.append(
                    f"'{_short(name)}' is no item id and no title" + (f"; the nearest are {near}" if near else "")
                )
        return f"{'. '.join(parts)}. Name each item by its id, or by its title with the year."


def _short(text: str) -> str:
    text = printable(text[: 4 * _SHOWN])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
