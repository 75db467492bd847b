"""The prepared data folder: what `llmrec data prepare` writes and everything else reads.

data.json            format_version, name, sources, order, ties, ratings, counts, content_hash, terms; times are in units of
                     10**-time_decimals of the source
items.parquet        the catalog
interactions.parquet user int32, item int32, time int64?, rating float32?; by user, oldest first
users.parquet        user_id string, row u for user u
features/            NAME.safetensors: vectors float32 (num_items, D), present bool (num_items,)
images/              images that the catalog's `image` column points to
semantic_ids/        NAME/: codes that `llmrec tokenize` gave the items
generated_texts/     NAME/: texts that `llmrec enrich` had written about items or users
splits/              NAME/: tables of a split that is given (`llmrec data published`); see `llmrec.data.given_splits`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.formats import read_parquet
from llmrec.data.interactions import Interactions, integers
from llmrec.data.reading import reading
from llmrec.errors import DataError
from llmrec.files import content_hash, put_back, read_json, write_arrow, write_json

FORMAT_VERSION = 1
SEMANTIC_IDS, GENERATED_TEXTS, SPLITS = "semantic_ids", "generated_texts", "splits"  # folders inside a data folder
PARTS = ("data.json", "items.parquet", "interactions.parquet", "users.parquet", "features", "images", SEMANTIC_IDS,
         GENERATED_TEXTS, SPLITS)  # fmt: skip


@dataclass
class Data:
    """Items, events and features that belong together. `card` is what data.json says; `folder` where they lie."""

    catalog: Catalog
    interactions: Interactions
    features: Features
    user_ids: list[str]
    card: dict = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        for what, there, expected in (
            ("the items of the events", self.interactions.num_items, self.catalog.num_items),
            ("the rows of the features", self.features.num_items, self.catalog.num_items),
            ("the user ids", len(self.user_ids), self.interactions.num_users),
        ):
            if there != expected:
                raise DataError(f"{what} number {there}, but {expected} were expected. Prepare the data again.")

    def content_hash(self) -> str:
        """16 hexadecimal characters that depend on the catalog, the events with times and ratings, and the user ids."""
        events = self.interactions
        optional = [part if part is not None else b"" for part in (events.times, events.ratings)]
        return content_hash(self.catalog.content_hash, events.indptr, events.items, *optional, "\n".join(self.user_ids))


def save_data(data: Data, folder: str | Path) -> None:
    """Write the parts into `folder` (data.json last, so that a folder without it is known to be unfinished)."""
    folder, events = Path(folder), data.interactions
    data.catalog.save(folder / "items.parquet")
    columns = {"user": np.repeat(np.arange(events.num_users, dtype=np.int32), events.lengths), "item": events.items}
    if events.times is not None:
        columns["time"] = events.times
    if events.ratings is not None:
        columns["rating"] = events.ratings
    write_arrow(folder / "interactions.parquet", pa.table(columns))
    write_arrow(folder / "users.parquet", pa.table({"user_id": pa.array(data.user_ids, pa.string())}))
    data.features.save(folder / "features")
    write_json(folder / "data.json", {"format_version": FORMAT_VERSION} | data.card)


def load_data(folder: str | Path) -> Data:
    """Read a prepared data folder. Raises DataError where it is none, not whole, or of a later format."""
    folder = put_back(folder)
    if not (folder / "data.json").is_file():
        raise DataError(
            f"'{folder}' is not a prepared data folder ({'it has no data.json' if folder.is_dir() else 'no such folder'}). "
            "Make one with: llmrec data prepare --items FILE --interactions FILE --out DIR"
        )
    card = read_json(folder / "data.json", "description of the data folder", DataError)
    if card.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"'{folder}' has the format version {card.get('format_version')}, but this llmrec reads {FORMAT_VERSION}. "
            "Prepare the data again, or use the llmrec that wrote them."
        )
    catalog = Catalog.load(folder / "items.parquet")
    events = _table(folder / "interactions.parquet", ("user", "item"))
    user_ids = _table(folder / "users.parquet", ("user_id",))["user_id"].to_pylist()
    users = integers(events["user"], np.int32, f"the users in '{folder}'")
    if len(users) and (users.min() < 0 or users.max() >= len(user_ids) or (np.diff(users) < 0).any()):
        raise DataError(
            f"the events of '{folder}' are not sorted by its {len(user_ids)} users. Prepare the data again."
        )
    indptr = np.zeros(len(user_ids) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_ids)), out=indptr[1:])
    optional = [events[name].to_numpy() if name in events.column_names else None for name in ("time", "rating")]
    interactions = Interactions(indptr, events["item"].to_numpy(), catalog.num_items, *optional)
    features = Features.load(folder / "features", catalog.num_items)
    return Data(catalog, interactions, features, user_ids, card, folder)


def _table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    with reading(path, "a table of a data folder", advice="Prepare the data again."):
        table = read_parquet(path, memory_map=True)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(f"'{path}' lacks the column '{missing[0]}'. Prepare the data again.")
    return table
