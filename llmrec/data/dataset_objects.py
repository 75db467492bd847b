"""Catalogues and events from `datasets.Dataset` and back, as Arrow columns and not row by row (extra `[datasets]`).

items, events = load_dataset("owner/items", split="train"), load_dataset("owner/events", split="train")
catalog = catalog_from_dataset(items)
interactions, user_ids = interactions_from_dataset(events, catalog)
interactions_to_dataset(interactions, catalog, user_ids).save_to_disk("events")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.events import match_events, sort_events, unknown_items_sentence
from llmrec.data.hub_datasets import datasets_library
from llmrec.data.interactions import Interactions
from llmrec.data.readers import read_interactions, read_items
from llmrec.errors import DataError

if TYPE_CHECKING:
    import datasets


def catalog_from_dataset(dataset: datasets.Dataset, columns: Mapping[str, str] | None = None) -> Catalog:
    """The items of a dataset, one a row. Columns, spellings and errors are those of `read_items`."""
    return Catalog(read_items(dataset, columns))


def catalog_to_dataset(catalog: Catalog) -> datasets.Dataset:
    """The catalogue's own columns: item_id and title (string), then string or list of strings. Nothing is copied."""
    return datasets_library().Dataset(catalog.table)


def interactions_from_dataset(
    dataset: datasets.Dataset, catalog: Catalog, columns: Mapping[str, str] | None = None
) -> tuple[Interactions, list[str]]:
    """The events of a dataset, one a row, by user (in order of first appearance) and, stably, by time or step; the ids of the users.

    Columns, spellings and errors are those of `read_interactions`; also DataError for events of items that the catalog lacks.
    """
    events = match_events(read_interactions(dataset, columns), catalog)
    if events.num_unknown:
        raise DataError(f"{unknown_items_sentence(events, catalog)}. Add them to the items, or leave those events out.")
    return sort_events(events, np.ones(len(events.items), bool), catalog.num_items, None)


def interactions_to_dataset(interactions: Interactions, catalog: Catalog, user_ids: Sequence[str]) -> datasets.Dataset:
    """One row an event, by user, oldest first: user_id, item_id (string), and where there are any timestamp (int64), rating (float32).

    user_ids: one for each user; those without events are in no row.
    """
    assert len(user_ids) == interactions.num_users, (len(user_ids), interactions.num_users)
    users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
    columns = {
        "user_id": pa.array(user_ids, pa.string()).take(pa.array(users)),
        "item_id": catalog.table["item_id"].take(pa.array(interactions.items)),
    }
    if interactions.times is not None:
        columns["timestamp"] = pa.array(interactions.times)
    if interactions.ratings is not None:
        columns["rating"] = pa.array(interactions.ratings)
    return datasets_library().Dataset(pa.table(columns))
