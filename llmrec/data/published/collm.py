"""CoLLM's MovieLens-1M click split: DATA/splits/collm_ml1m, and as events the liked training examples.

SOURCE holds items.jsonl.gz (item_id, title) and train, valid, test.jsonl.gz (user, item, label, timestamp, his). In `his` a leading
0 is padding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples, liked_events, padded
from llmrec.data.click_files import write_click_examples
from llmrec.data.features import Features
from llmrec.data.folder import SPLITS, Data, save_data
from llmrec.data.given_splits import PARTS, SplitCard
from llmrec.data.published.tables import labels_of, rows_of
from llmrec.errors import DataError

_COLUMNS = {"user": int, "item": int, "label": int, "timestamp": int, "his": list}


def make(source: Path, out: Path, name: str, terms: str) -> None:
    """Writes the data folder `out` with its split. Raises DataError for files that are missing or do not fit one another."""
    items = rows_of(source / "items.jsonl.gz", {"item_id": int, "title": str})
    dense = {item["item_id"]: index for index, item in enumerate(items)}
    catalog = Catalog.from_rows([{"item_id": str(item["item_id"]), "title": item["title"]} for item in items])
    parts = {part: _examples(source / f"{part}.jsonl.gz", dense) for part in PARTS}
    num_users = 1 + max(int(rows.users.max()) for rows in parts.values())
    events = liked_events(parts["train"], catalog.num_items, num_users)
    data = Data(catalog, events, Features(catalog.num_items), [str(user) for user in range(num_users)])
    save_published(data, out, name, terms)
    folder = out / SPLITS / name
    for part, rows in parts.items():
        write_click_examples(folder / f"{part}.parquet", rows)
    rule = "published rows; history: the user's liked items before the row; events: the liked training rows"
    SplitCard(name, rule, 0, data.content_hash()).save(folder)


def save_published(data: Data, out: Path, name: str, terms: str) -> None:
    """Writes data whose events are liked training rows, with a card like that of prepared data."""
    counts = {
        "users": data.interactions.num_users,
        "items": data.catalog.num_items,
        "events": data.interactions.num_events,
    }
    data.card = {
        "name": name,
        "order": "timestamp" if data.interactions.times is not None else "file",
        "ties": {"policy": "file"},
        "ratings": {"policy": "liked training rows"},
        "counts": counts,
        "terms": terms,
        "content_hash": data.content_hash(),
    }
    save_data(data, out)


def _examples(path: Path, dense: dict[int, int]) -> ClickExamples:
    """Click examples with items numbered as the catalogue has them."""
    rows = rows_of(path, _COLUMNS)
    try:
        histories = padded([[dense[item] for item in row["his"] if item != 0] for row in rows])
        items = np.array([dense[row["item"]] for row in rows], np.int32)
    except KeyError as problem:
        raise DataError(f"'{path}' names the item {problem}, which items.jsonl.gz beside it lacks.") from problem
    users, times = (np.array([row[name] for row in rows]) for name in ("user", "timestamp"))
    labels, zeros = labels_of(rows, path), np.zeros(len(rows), np.int32)
    return ClickExamples(users.astype(np.int32), items, labels, histories, zeros, zeros.copy(), times.astype(np.int64))
