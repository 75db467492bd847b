"""Free answers read as items: valid, repeated, or none."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from llmrec.items.plain_text import one_line

VALID, REPEATED, NONE = "valid", "repeated", "none"
_NUMBER = re.compile(r"\d+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
_AROUND = " \t\"'“”‘’`*_.,;:!"


class TitleReader:
    """Which item a written line names: that of an equal title, cases, quotes and a bullet aside. Of equal titles the first item."""

    def __init__(self, titles: Sequence[str]) -> None:
        """titles: of each item."""
        self._items: dict[str, int] = {}
        for item, title in enumerate(titles):
            self._items.setdefault(_plain(title), item)

    def item(self, line: str) -> int | None:
        """The item; None for a line that is no title."""
        found = self._items.get(_plain(line))
        return found if found is not None else self._items.get(_plain(_BULLET.sub("", line)))

    def statuses(self, lines: Sequence[str], *, seen: Collection[int] | np.ndarray) -> list[str]:
        """Of each line of a ranked list: VALID, REPEATED (an item that was seen, or that an earlier line named), or NONE."""
        return statuses_of([self.item(line) for line in lines], seen=seen)


def read_number(text: str, num_candidates: int) -> int | None:
    """The place, from 0 on, that the first number in an answer names; None where that is not from 1 to num_candidates."""
    found = _NUMBER.search(text)
    number = int(found[0][:9]) if found else 0
    return number - 1 if 1 <= number <= num_candidates else None


def statuses_of(items: Sequence[int | None], *, seen: Collection[int] | np.ndarray) -> list[str]:
    """Of each item of a ranked list, None for what names no item: see `TitleReader.statuses`."""
    named = {int(item) for item in seen}
    found = []
    for item in items:
        found.append(NONE if item is None else REPEATED if item in named else VALID)
        if item is not None:
            named.add(item)
    return found


def shares_of(statuses: Sequence[str]) -> dict[str, Any]:
    """Counts of each kind, and the share of valid ones: JSON values; None of no answers."""
    counts = {kind: sum(status == kind for status in statuses) for kind in (VALID, REPEATED, NONE)}
    return {"answers": len(statuses), **counts, "validity": counts[VALID] / len(statuses) if statuses else None}


def _plain(text: str) -> str:
    return one_line(text).strip(_AROUND).casefold()
