"""Click examples of a split that is given, as three tables of a folder: train.parquet, valid.parquet, test.parquet.

| column | what |
|---|---|
| user, item | int32, dense: `user` numbered from 0 on, in any order, `item` of the data folder's catalogue |
| label | bool, whether the user liked the item |
| history | list of int32, what the user had liked before, oldest first |
| disliked | list of int32, optional: what the user had disliked before |
| time | int64, optional |

For published splits, whose examples are fixed; examples of one's own events are made by `click_examples`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit, liked_events
from llmrec.data.folder import Data
from llmrec.data.formats import read_parquet
from llmrec.data.given_splits import PARTS, find_given_split, read_split_card
from llmrec.data.interactions import integers
from llmrec.data.reading import reading
from llmrec.errors import DataError
from llmrec.files import content_hash, write_arrow

MOST_USERS = 10_000_000  # a row each in arrays by user


def write_click_examples(path: str | Path, rows: ClickExamples) -> None:
    """One table of a given split."""
    columns = {
        "user": pa.array(rows.users, pa.int32()),
        "item": pa.array(rows.items, pa.int32()),
        "label": pa.array(rows.labels, pa.bool_()),
        "history": pa.array([history[history != PADDING] for history in rows.histories], pa.list_(pa.int32())),
    }
    if rows.disliked is not None:
        columns["disliked"] = pa.array([items[items != PADDING] for items in rows.disliked], pa.list_(pa.int32()))
    if rows.times is not None:
        columns["time"] = pa.array(rows.times, pa.int64())
    write_arrow(Path(path), pa.table(columns))


def read_click_split(folder: str | Path, num_items: int, *, max_history: int) -> ClickSplit:
    """The split in `folder`; of longer histories the latest `max_history` items count.

    `answered` and `liked` count the user's examples in all three parts that are strictly earlier; without times, those of the example
    itself where it comes with what was disliked, else both are 0. `events` are the liked training examples.

    Raises:
        DataError: a table that is missing, not of this shape, of another catalogue, or without both classes.
    """
    parts = {name: _read(Path(folder) / f"{name}.parquet", num_items, max_history) for name in PARTS}
    _count_earlier(list(parts.values()))
    sources = ", ".join(content_hash(rows.users, rows.items, rows.labels) for rows in parts.values())
    counts = {
        name: {"rows": len(rows), "positive": round(float(rows.labels.mean()), 4)} for name, rows in parts.items()
    }
    card = {
        "split": "given",
        "content": sources,
        "history": f"last {max_history} items of the rows' own",
        "parts": counts,
    }
    num_users = 1 + max(int(rows.users.max(initial=-1)) for rows in parts.values())
    return ClickSplit(**parts, card=card, events=liked_events(parts["train"], num_items, num_users))


def given_click_split(data: Data, name: str, *, max_history: int) -> ClickSplit:
    """The click examples that lie in the data folder as the split `name`; `events` are all events that no row asks about.

    Raises DataError where the folder has no such split, or it was made for other data, and as `read_click_split`.
    """
    folder = find_given_split(data, name, "test.parquet")
    card = read_split_card(folder, data)
    split = read_click_split(folder, data.catalog.num_items, max_history=max_history)
    shown = {"name": name, "source": card.source, "rule": card.rule}
    return replace(split, card=shown | split.card, events=data.interactions.head(card.asked_events))


def _read(path: Path, num_items: int, max_history: int) -> ClickExamples:
    # KeyError: a column that is not there; the others: columns of other types, or with nulls
    what, other_columns = "click examples with the columns user, item, label and history", (TypeError, AttributeError)
    with reading(path, what, KeyError, ValueError, *other_columns):
        table = read_parquet(path)
        users, items = (integers(table[name], np.int32, f"'{name}' in '{path}'") for name in ("user", "item"))
        labels = table["label"].to_numpy().astype(bool)
        flat, lengths = _lists(table, "history", path)
        dislikes = _lists(table, "disliked", path) if "disliked" in table.column_names else None
        times = integers(table["time"], np.int64, f"'time' in '{path}'") if "time" in table.column_names else None
    if len(users) and not (users.min() >= 0 and users.max() < MOST_USERS):
        raise DataError(
            f"the users in '{path}' should be numbered from 0 on, below {MOST_USERS:,}, but are {users.min()} to {users.max()}. Number "
            "them anew."
        )
    named = np.concatenate([items, flat, *(() if dislikes is None else dislikes[:1])])
    if len(named) and not (named.min() >= 0 and named.max() < num_items):
        raise DataError(
            f"the click examples in '{path}' name items {named.min()} to {named.max()}, but the catalogue has 0 to {num_items - 1}. "
            "Number the items as the data folder does."
        )
    if not labels.any() or labels.all():
        raise DataError(
            f"the click examples in '{path}' should hold both classes, but {labels.sum()} of {len(labels)} are liked."
        )
    liked = np.zeros(len(items), np.int32)
    answered = liked.copy()
    if dislikes is not None:  # all answers before the example stand in it
        liked[:], answered[:] = lengths, lengths + dislikes[1]
    disliked = None if dislikes is None else _latest(*dislikes, max_history)
    return ClickExamples(users, items, labels, _latest(flat, lengths, max_history), answered, liked, times, disliked)


def _lists(table: pa.Table, column: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists of items: the items of all, int32, and the length of each, int64 (N,)."""
    lists = table[column].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    flat = integers(lists.flatten(), np.int32, f"'{column}' in '{path}'")
    return flat, lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)


def _latest(flat: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """The last `width` items of each list, PADDING in front: int32 (N, width)."""
    ends = np.cumsum(lengths)
    positions = ends[:, None] - width + np.arange(width)
    values = np.append(flat, np.int32(PADDING))
    return values[np.where(positions >= (ends - lengths)[:, None], positions, -1)]


def _count_earlier(parts: list[ClickExamples]) -> None:
    """Fills in `answered` and `liked`."""
    if any(rows.times is None for rows in parts):
        return
    users, times, labels = (np.concatenate([getattr(r, name) for r in parts]) for name in ("users", "times", "labels"))
    order = np.lexsort((times, users))
    users, times = users[order], times[order]
    liked_until = np.concatenate([[0], np.cumsum(labels[order])])
    is_new_user = np.diff(users, prepend=-1) != 0
    is_new_moment = is_new_user | (np.diff(times, prepend=times[:1] - 1) != 0)
    positions = np.arange(len(users))
    first, start = (np.maximum.accumulate(np.where(at, positions, 0)) for at in (is_new_moment, is_new_user))
    answered, liked = np.empty(len(users), np.int32), np.empty(len(users), np.int32)
    answered[order], liked[order] = first - start, liked_until[first] - liked_until[start]
    for rows, stop in zip(parts, np.cumsum([len(r) for r in parts]), strict=True):
        rows.answered[:], rows.liked[:] = answered[stop - len(rows) : stop], liked[stop - len(rows) : stop]
