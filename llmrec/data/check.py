"""What `llmrec data check` finds in a user's files before anything is written: problems stop `prepare`, warnings do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.events import (
    Events,
    count_ties,
    doubles,
    match_events,
    other_times_sentence,
    sort_events,
    unknown_items_sentence,
)
from llmrec.data.item_columns import image_file, plain_of_markup
from llmrec.data.readers import read_interactions, read_items
from llmrec.data.reading import quoted, shortened
from llmrec.errors import LlmrecError

_LONG_TITLE = 1000  # characters; a language model's prompt holds a few thousand in all


def check(
    items_path: str | Path, interactions_path: str | Path, *, columns: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Look both files through without writing anything.

    Returns {"ok": no problems, "counts": {...}, "problems": [...], "warnings": [...]}; a problem is {"message",
    "count", "examples"} and stops `prepare`, a warning {"message", "count"} does not. `columns` as for `prepare`.
    """
    report = {"ok": False, "counts": {}, "problems": [], "warnings": []}
    catalog = table = None
    try:
        catalog = Catalog(read_items(items_path, columns))
    except LlmrecError as error:
        report["problems"].append({"message": str(error), "count": 1, "examples": []})
    try:
        table = read_interactions(interactions_path, columns)
    except LlmrecError as error:
        report["problems"].append({"message": str(error), "count": 1, "examples": []})
    if catalog is not None:
        report["counts"]["items"] = catalog.num_items
        report["warnings"] += _about_items(catalog, Path(items_path).parent)
    if table is not None:
        report["counts"] |= {"events": table.num_rows}
    if catalog is not None and table is not None:
        events = match_events(table, catalog)
        if events.num_unknown:
            message = unknown_items_sentence(events, catalog)
            message += ". Add them to the items, or leave those interactions out with --drop-unknown."
            examples = [item_id[:60] for item_id in events.unknown_ids[:5]]
            report["problems"].append({"message": message, "count": events.num_unknown, "examples": examples})
        counts, warnings = _about_events(events, catalog)
        report["counts"] |= counts
        report["warnings"] += warnings
    report["ok"] = not report["problems"]
    return report


def _about_items(catalog: Catalog, root: Path) -> list[dict]:
    titles = Counter(title for title in catalog.titles if title)
    shared = {title: count for title, count in titles.items() if count > 1}
    example = f", such as '{shortened(max(shared, key=shared.get))}'" if shared else ""
    images = [name for name in catalog.table["image"].to_pylist() if name] if "image" in catalog.fields else []
    lost = sum(image_file(root.resolve(), name) is None for name in images)
    marked = [title for title in titles if plain_of_markup(title) != title]
    spaced = _differ_by_spaces(catalog.item_ids)
    wordless = ", ".join(f"'{shortened(name)}' ({what})" for name, what in catalog.no_words.items())
    return _warnings(
        (catalog.num_unnamed, "columns of the items have no name (the index of a data frame?) and are left out"),
        (len(catalog.no_words), f"columns of the items hold no words and stay out of texts unless they are named: {wordless}"),
        (sum(titles[title] for title in marked), f"titles hold markup, such as '{shortened(''.join(marked[:1]))}'; take it out with "
         "--unescape of `llmrec data prepare`"),
        (len(spaced), f"item ids differ from another one by spaces alone, such as {', '.join(spaced[:2])}: they are different items"),
        (catalog.num_untitled, "items have no title and will be known by their other fields only"),
        (sum(shared.values()), f"items share their title with another one{example}"),
        (sum(len(title) > _LONG_TITLE for title in titles), f"titles are longer than {_LONG_TITLE} characters"),
        (lost, f"of {len(images)} images are no file under '{root}' (say where they lie with --image-root)"),
    )  # fmt: skip


def _differ_by_spaces(ids: Sequence[str]) -> list[str]:
    """The ids, quoted, that are another one but for spaces at their ends."""
    stripped = Counter(outside.strip() for outside in ids)
    return [quoted(outside) for outside in ids if stripped[outside.strip()] > 1]


def _about_events(events: Events, catalog: Catalog) -> tuple[dict[str, int], list[dict]]:
    interactions, user_ids = sort_events(events, events.items >= 0, catalog.num_items, None)
    num_users, num_events = interactions.num_users, interactions.num_events
    users = np.repeat(np.arange(num_users), interactions.lengths)
    pairs = np.sort(users * catalog.num_items + interactions.items)
    ties = count_ties(interactions)
    num_doubles = int(doubles(events, events.items >= 0).sum())
    spaced = _differ_by_spaces(user_ids)
    tied, last = ties.get("tied_events", 0), ties.get("users_with_tied_last_event", 0)
    no_clock = {
        "timestamp": "",
        "step": "interactions have a step but no timestamp: no temporal split, no shuffling of ties",
        "file": "interactions have neither timestamp nor step: the file's order is taken, no temporal split",
    }[events.order_kind]
    return {"users": len(user_ids), **ties}, _warnings(
        (num_events if no_clock else 0, no_clock),
        (len(events.other_times), "columns of times were passed over: "
         + other_times_sentence(events.order_column, events.other_times)),
        (len(spaced), f"user ids differ from another one by spaces alone, such as {', '.join(spaced[:2])}: they are different users"),
        (num_doubles, "interactions are doubles of an earlier one (same user, item and time); leave them out with --drop-doubles"),
        (tied, f"interactions ({_percent(tied, num_events)}) are at the time of the same user's one before; their order "
               "is the file's, or random with --ties shuffle: results depend on it"),
        (last, f"users ({_percent(last, num_users)}) have a last event, the test target, at the time of the one before"),
        (int((interactions.counts() == 0).sum()), "items have no interactions"),
        (int((interactions.lengths < 3).sum()), "users have fewer than 3 interactions and are never asked, only learned from"),
        (int((np.diff(pairs) == 0).sum()), "interactions repeat a user's earlier one with the same item"),
    )  # fmt: skip


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def _warnings(*found: tuple[int, str]) -> list[dict]:
    return [{"message": f"{count} {what}.", "count": count} for count, what in found if count]
