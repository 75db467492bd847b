"""The events of a file: matched with the catalogue, sorted by user and time, ties and doubles counted.

Letters: E events of the file, U users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.interactions import Interactions
from llmrec.data.readers import order_source
from llmrec.data.reading import quoted, shortened
from llmrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Events:
    """The events of a file, in its order, items and users as numbers.

    users: int32 (E,) into user_ids; items: int32 (E,) dense items, -1 where the catalog has no such item;
    order: int64 (E,) times in units of 10**-time_decimals of the file's where `order_kind` is "timestamp", int64 or float64
    positions where it is "step", None where it is "file"; order_column: its name in the file; other_times: columns that hold
    times too, passed over; ratings: float32 (E,) or None; unknown_ids: ids of items that the catalog lacks; num_unknown:
    their events.
    """

    users: np.ndarray
    items: np.ndarray
    order: np.ndarray | None
    order_kind: str
    time_decimals: int
    order_column: str | None
    other_times: list[str]
    ratings: np.ndarray | None
    user_ids: pa.Array
    unknown_ids: list[str]
    num_unknown: int


def match_events(table: pa.Table, catalog: Catalog) -> Events:
    """The table that `read_interactions` gives, with the catalog's numbers for its items."""
    user_codes, item_codes = (table[name].combine_chunks() for name in ("user_id", "item_id"))
    item_of_code = pc.fill_null(pc.index_in(item_codes.dictionary, catalog.table["item_id"].combine_chunks()), -1)
    item_of_code = item_of_code.to_numpy(zero_copy_only=False).astype(np.int32)
    items = item_of_code[item_codes.indices.to_numpy()]
    order_kind = next((name for name in ("timestamp", "step") if name in table.column_names), "file")
    order, decimals = None if order_kind == "file" else table[order_kind].to_numpy(), 0
    if order_kind == "timestamp":
        order, decimals = whole_times(order)
    unknown = pa.array(item_of_code < 0)
    return Events(
        user_codes.indices.to_numpy(),
        items,
        order,
        order_kind,
        decimals,
        *order_source(table),
        table["rating"].to_numpy() if "rating" in table.column_names else None,
        user_codes.dictionary,
        item_codes.dictionary.filter(unknown).to_pylist(),
        int((items < 0).sum()),
    )


def whole_times(times: np.ndarray) -> tuple[np.ndarray, int]:
    """Times as whole numbers that are as different as they were: times 10**D, int64 (E,), and D.

    times: int64 or float64 (E,). D is the number of decimals that they are written with; of binary fractions without an end,
    the most that fit. Raises DataError where different times would become one.
    """
    if times.dtype.kind == "i" or not len(times):
        return times.astype(np.int64), 0
    largest = np.abs(times).max()
    for decimals in range(19):
        if largest * 10.0**decimals >= 2.0**62:
            break
        scaled = np.rint(times * 10.0**decimals)
        if (scaled / 10.0**decimals == times).all():
            return scaled.astype(np.int64), decimals
    else:
        decimals = 19
    scaled = np.rint(times * 10.0 ** (decimals - 1)).astype(np.int64)
    if len(np.unique(scaled)) < len(np.unique(times)):
        raise DataError(
            f"the timestamps reach from {times.min():g} to {times.max():g}, and some differ by so little that 64-bit whole "
            "numbers cannot keep them apart. Write them as whole numbers of a unit that suits them."
        )
    return scaled, decimals - 1


def unknown_items_sentence(events: Events, catalog: Catalog, limit: int = 3) -> str:
    """How many events are of items that the catalog lacks, with examples and the nearest ids that it has."""
    examples, known_ids = [], catalog.item_ids
    for item_id in events.unknown_ids[:limit]:
        nearest = ", ".join(quoted(known) for known in nearest_words(item_id, known_ids))
        examples.append(f"{quoted(item_id)} (nearest: {nearest})")
    known = {known_id.strip() for known_id in known_ids}
    spaced = sum(item_id.strip() in known for item_id in events.unknown_ids)
    by_spaces = f"; {spaced} of these ids differ from an item's by spaces alone" if spaced else ""
    return (
        f"{events.num_unknown} of {len(events.items)} interactions are with {len(events.unknown_ids)} item ids that the "
        f"items lack, such as {'; '.join(examples)}{by_spaces}"
    )


def other_times_sentence(order_column: str | None, other_times: list[str]) -> str:
    """Which columns hold times too, besides the one that gave the order (None: the rows' own order did)."""
    others = ", ".join(f"'{shortened(name)}'" for name in other_times)
    chosen = "the order of their rows" if order_column is None else f"'{shortened(order_column)}'"
    return (
        f"the interactions go by {chosen}, but {others} holds a time in every row too; --time-column says which counts"
    )


def doubles(events: Events, kept: np.ndarray) -> np.ndarray:
    """The kept events that an earlier one of the file, kept too, equals in user, item and time (or step): bool (E,).

    Without times and steps nothing tells a double from a repeat, and there are none.
    """
    found = np.zeros(len(events.items), bool)
    if events.order is not None:
        rows = np.flatnonzero(kept)
        columns = [part[rows] for part in (events.order, events.items, events.users)]
        by_event = np.lexsort(columns)  # stable: of equal ones the file's first leads
        same = np.logical_and.reduce([np.diff(part[by_event]) == 0 for part in columns])
        found[rows[by_event[1:][same]]] = True
    return found


def sort_events(
    events: Events, kept: np.ndarray, num_items: int, shuffle_seed: int | None
) -> tuple[Interactions, list[str]]:
    """The kept events by user and time, and the ids of the users that have any.

    Users are numbered by first appearance among the kept events. The sort is stable: events of one user at one time
    stay in the file's order, or are put into a random one by `shuffle_seed`.
    """
    users = events.users[kept]
    first = np.full(len(events.user_ids), len(users), np.int64)
    first[users[::-1]] = np.arange(len(users))[::-1]
    by_appearance = np.argsort(first, kind="stable")[: int((first < len(users)).sum())]
    number = np.empty(len(events.user_ids), np.int32)
    number[by_appearance] = np.arange(len(by_appearance), dtype=np.int32)
    users = number[users]
    keys = [users]
    if events.order is not None:
        order = events.order[kept]
        keys.insert(0, order)
        if shuffle_seed is not None:
            keys.insert(0, np.random.default_rng(shuffle_seed).permutation(len(users)))
    positions = np.lexsort(keys)
    indptr = np.zeros(len(by_appearance) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(by_appearance)), out=indptr[1:])
    interactions = Interactions(
        indptr,
        events.items[kept][positions],
        num_items,
        order[positions] if events.order_kind == "timestamp" else None,
        None if events.ratings is None else events.ratings[kept][positions],
    )
    return interactions, events.user_ids.take(pa.array(by_appearance)).to_pylist()


def count_ties(interactions: Interactions) -> dict[str, int]:
    """Events at the time of the user's event before, and users whose last event is one; empty without times."""
    if interactions.times is None:
        return {}
    tied = np.zeros(interactions.num_events, bool)
    tied[1:] = np.diff(interactions.times) == 0
    tied[interactions.indptr[:-1][interactions.lengths > 0]] = False
    last = interactions.indptr[1:][interactions.lengths > 0] - 1
    return {"tied_events": int(tied.sum()), "users_with_tied_last_event": int(tied[last].sum())}
