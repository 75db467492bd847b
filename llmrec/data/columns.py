"""How other people spell the columns that llmrec needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmrec.errors import DataError

# Compared without case, spaces, hyphens and underscores; where a file has several, the first named here wins.
SPELLINGS = {
    "user_id": ("userid", "user", "uid", "reviewerid", "customerid", "memberid", "visitorid"),
    "item_id": ("itemid", "item", "iid", "parentasin", "asin", "movieid", "productid", "videoid", "bookid", "newsid",
                "articleid", "trackid", "songid", "businessid", "gameid", "sku", "isbn"),
    "timestamp": ("timestamp", "eventtimestamp", "timestampms", "timems", "time", "unixreviewtime", "unixtimestamp", "ts",
                  "eventtime", "createdat", "datetime", "date"),
    "step": ("step", "position", "order"),
    "rating": ("rating", "overall", "score", "stars"),
    "title": ("title", "movietitle", "itemtitle", "producttitle", "name", "itemname", "productname", "movie"),
    "image": ("image", "imagepath", "imagefile", "poster"),
}  # fmt: skip
OPTIONS = {
    "user_id": "--user-column",
    "item_id": "--item-column",
    "timestamp": "--time-column",
    "rating": "--rating-column",
    "title": "--title-column",
}


def match_columns(
    names: Sequence[str], wanted: Sequence[str], required: Sequence[str], path: Path, columns: Mapping[str, str]
) -> dict[str, str]:
    """Which column of the file serves as which: canonical name -> name in the file.

    `columns` are the user's own choices (canonical -> in the file); the rest is found by spelling.
    Raises DataError for a chosen column that is not there, or a required one that is not found.
    """
    found = {}
    plain = {}
    for name in names:
        plain.setdefault("".join(letter for letter in name.lower() if letter not in " -_"), name)
    for canonical in wanted:
        if canonical in columns:
            if columns[canonical] not in names:
                raise DataError(
                    f"'{path}' has no column '{columns[canonical]}' to use as {canonical} (it has: {listed(names)})."
                )
            found[canonical] = columns[canonical]
        elif canonical in names:
            found[canonical] = canonical
        else:
            taken = set(columns.values()) | set(found.values())
            spelled = (plain.get(spelling) for spelling in SPELLINGS[canonical])
            name = next((name for name in spelled if name is not None and name not in taken), None)
            if name is not None:
                found[canonical] = name
    for canonical in required:
        if canonical not in found:
            option = "--catalog-id-column" if canonical == "item_id" and "title" in wanted else OPTIONS[canonical]
            hint = " Is the header line missing?" if any(name.replace(".", "").isdigit() for name in names) else ""
            raise DataError(
                f"'{path}' needs a column '{canonical}', but has only: {listed(names)}.{hint} "
                f"Rename the column that serves as {canonical}, or name it with {option}."
            )
    return found


def has_no_name(name: str) -> bool:
    """Whether a column is called nothing, or what data frames call their index: it says nothing about its row."""
    return not name.strip() or re.fullmatch(r"Unnamed: \d+(_level_\d+)?|__index_level_\d+__", name) is not None


def listed(names: Sequence[str]) -> str:
    """The names in one line, the first 30 of them."""
    more = f", ... ({len(names)} in all)" if len(names) > 30 else ""
    return (", ".join(name[:60] for name in names[:30]) or "no columns") + more


def is_named_like_a_time(name: str) -> bool:
    """`click_timestamp`, `updated_at`, `eventTime`, `review_date`: what its values say is another question."""
    return (
        re.search(r"time|date|(?:^|[_ -])(?:at|ts)$", name.lower()) is not None
        or re.search("[a-z]At$", name) is not None
    )
