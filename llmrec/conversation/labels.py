"""How items are named in a conversation, and how a list that was shown is read back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch
from llmrec.terminal import printable

_LISTED = re.compile(r"^ *\d{1,6}(?P<mark>[.)]) +(?P<label>\S(?:.*\S)?) *$", re.MULTILINE)
_WITH_ID = re.compile(r"(?P<label>.+) \[(?P<item_id>[^\[\]]+)\]$")


class Labels:
    """Title and year of a catalogue's items, and the item id where title and year alone would look alike."""

    def __init__(self, catalog: Catalog, search: TitleSearch) -> None:
        self._catalog, self._search = catalog, search

    def of(self, items: Sequence[int]) -> list[str]:
        """Items that stand side by side: an id where two of these look alike."""
        labels = [self._label(item) for item in items]
        return [self._with_id(label, item) if labels.count(label) > 1 else label
                for label, item in zip(labels, items, strict=True)]  # fmt: skip

    def of_ids(self, item_ids: Sequence[str]) -> list[str]:
        """The same of item ids."""
        return self.of(self._catalog.index(item_ids).tolist())

    def own(self, item_ids: Sequence[str]) -> list[str]:
        """Labels that no other item of the catalogue has, so that `listed_in` can read them back."""
        return [self._own_label(item) for item in self._catalog.index(item_ids).tolist()]

    def listed_in(self, text: str) -> list[str]:
        """The item ids that a text lists by number and `own` label; any other lines are passed over."""
        listed = [match["label"] for match in _LISTED.finditer(text) if match["mark"] == "."]
        found = (self._labelled(label) for label in listed)
        return list(dict.fromkeys(self._catalog.item_id(item) for item in found if item is not None))

    def _label(self, item: int) -> str:
        title = printable(self._catalog.title(item)) or printable(self._catalog.item_id(item))
        year = self._search.years[item]
        return f"{title} ({printable(year)})" if year and f"({year})" not in title else title

    def _with_id(self, label: str, item: int) -> str:
        return f"{label} [{printable(self._catalog.item_id(item))}]"

    def _own_label(self, item: int) -> str:
        label = self._label(item)
        return label if self._labelled(label) == item else self._with_id(label, item)

    def _labelled(self, label: str) -> int | None:
        """The one item that a label of `_own_label` stands for."""
        alike = [item for item in self._search.named(label) if self._label(item) == label]
        if len(alike) == 1:
            return alike[0]
        with_id = _WITH_ID.match(label)
        if with_id is None or not self._catalog.contains([with_id["item_id"]]).all():
            return None
        (item,) = self._catalog.index([with_id["item_id"]]).tolist()
        return item if self._label(item) == with_id["label"] else None
