"""From a user's own files to a prepared data folder: ids to dense numbers, events by user and time, ties settled.

Letters: E events of the file.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.added_parts import keep_added
from llmrec.data.catalog import Catalog
from llmrec.data.events import Events, count_ties, doubles, match_events, sort_events, unknown_items_sentence
from llmrec.data.features import Features
from llmrec.data.folder import PARTS, Data, load_data, save_data
from llmrec.data.hub_datasets import is_hub_dataset
from llmrec.data.interactions import Interactions
from llmrec.data.item_columns import image_file
from llmrec.data.readers import read_interactions, read_items
from llmrec.errors import ConfigError, DataError
from llmrec.files import atomic_folder, put_back, unfinished


def prepare(
    items_path: str | Path,
    interactions_path: str | Path,
    out: str | Path,
    *,
    ties: str = "file",
    seed: int = 0,
    rating_threshold: float | None = None,
    min_user_events: int = 0,
    title_column: str | None = None,
    image_root: str | Path | None = None,
    name: str | None = None,
    drop_unknown: bool = False,
    drop_doubles: bool = False,
    unescape: bool = False,
    columns: Mapping[str, str] | None = None,
    terms: str | None = None,
    force: bool = False,
) -> Data:
    """Read items and interactions, write the data folder `out`, return what it holds.

    Events are sorted by user (in order of first appearance) and, stably, by time or step. `ties` settles events of one
    user at one time: "file" keeps the file's order, "shuffle" makes a random one by `seed`. `rating_threshold` keeps events rated
    at least that, `min_user_events` users with at least that many. `drop_unknown` leaves out events of unknown items
    instead of refusing them, `drop_doubles` all but the first of a user's events with one item at one time; `unescape`
    takes the markup of web pages out of the items' texts. `columns` maps
    user_id, item_id, timestamp, rating (interactions), catalog_id and title (items) to the names in the files. Images
    that the column `image` names are copied from `image_root` (by default where the items lie). Features, semantic ids and
    generated texts that were added to an older data folder `out` stay where they fit the new data (`added_parts`); where
    some do not, `force` leaves them behind. Raises DataError for what is wrong with the files or with `out` (a folder that
    llmrec did not write is never touched, and nothing that was added is lost without `force`), ConfigError for settings.
    Nothing is left behind where it fails.
    """
    out, items_path, interactions_path = Path(out), Path(items_path), Path(interactions_path)
    if ties not in ("file", "shuffle"):
        raise ConfigError(f"ties should be 'file' or 'shuffle', but they are '{ties}'.")
    if seed < 0:
        raise ConfigError(f"a seed is 0 or more, but it is {seed}.")
    check_replaceable(out)
    columns = dict(columns or {}) | ({"title": title_column} if title_column else {})
    catalog = Catalog(read_items(items_path, columns, unescape=unescape))
    events = match_events(read_interactions(interactions_path, columns), catalog)
    if ties == "shuffle" and events.order_kind != "timestamp":
        raise DataError(
            f"ties='shuffle' needs timestamps, but '{interactions_path}' "
            f"{'has only a step, which is an order and no time' if events.order_kind == 'step' else 'has none'}. "
            "Use ties='file', or add a timestamp column."
        )
    if drop_doubles and events.order is None:
        raise DataError(
            f"'{interactions_path}' has neither times nor steps, so a repeated event cannot be told from a double. "
            "Leave out --drop-doubles, or add a timestamp column."
        )
    kept, dropped = _kept(
        events, catalog, rating_threshold, drop_unknown, drop_doubles, min_user_events, interactions_path
    )
    interactions, user_ids = sort_events(events, kept, catalog.num_items, seed if ties == "shuffle" else None)
    card = {
        "name": name or out.absolute().name,
        "sources": {"items": _source(items_path), "interactions": _source(interactions_path)},
        "order": events.order_kind,
        "order_column": events.order_column,
        "other_time_columns": events.other_times,
        "time_decimals": events.time_decimals,
        "ties": {"policy": ties, "seed": seed} if ties == "shuffle" else {"policy": ties},
        "ratings": {"policy": "threshold", "threshold": rating_threshold}
        if rating_threshold is not None
        else {"policy": "all"},
        "min_user_events": min_user_events,
        "counts": _counts(interactions, catalog)
        | ({} if events.order is None else {"doubled_events": int(doubles(events, kept).sum())})
        | {"dropped_events": dropped},
        "terms": terms,
    }
    with atomic_folder(out) as new:
        if "image" in catalog.fields:
            catalog, card["counts"]["images"] = _copy_images(catalog, Path(image_root or items_path.parent), new)
        data = Data(catalog, interactions, Features(catalog.num_items), user_ids, card)
        card["content_hash"] = data.content_hash()
        save_data(data, new)
        keep_added(out, new, data, force=force)
    return load_data(out)


def _source(path: Path) -> str:
    return str(path) if is_hub_dataset(path) else path.name


def _counts(interactions: Interactions, catalog: Catalog) -> dict[str, int]:
    return {
        "users": interactions.num_users,
        "items": catalog.num_items,
        "events": interactions.num_events,
        "items_without_events": int((interactions.counts() == 0).sum()),
        "items_without_title": catalog.num_untitled,
        **({"columns_without_name": catalog.num_unnamed} if catalog.num_unnamed else {}),
        "users_with_under_3_events": int((interactions.lengths < 3).sum()),
        **count_ties(interactions),
    }


def check_replaceable(out: Path) -> None:
    """Raise DataError unless `out` is new, empty, or holds a prepared data folder and nothing else."""
    if put_back(out).is_dir():
        entries = sorted(entry.name for entry in set(out.iterdir()) - set(unfinished(out)))
        foreign = [entry for entry in entries if entry not in PARTS]
        if entries and (foreign or "data.json" not in entries):
            raise DataError(
                f"'{out}' exists and holds what `data prepare` did not write ({', '.join((foreign or entries)[:3])}), "
                "and nothing of it will be deleted. Name a new folder with --out, or move that one away."
            )
    elif out.exists() or out.is_symlink():
        raise DataError(f"'{out}' is a file, but a folder will be written there. Name a new folder with --out.")


def _kept(
    events: Events,
    catalog: Catalog,
    threshold: float | None,
    drop_unknown: bool,
    drop_doubles: bool,
    min_user_events: int,
    path: Path,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which events stay: bool (E,), and how many went for each reason. DataError where none stay."""
    kept = events.items >= 0
    if events.num_unknown and not drop_unknown:
        raise DataError(
            f"'{path}': {unknown_items_sentence(events, catalog)}. Add them to the items, or leave those interactions out "
            "with --drop-unknown."
        )
    dropped = {"unknown_item": int((~kept).sum())}
    if threshold is not None:
        if events.ratings is None:
            raise DataError(
                f"'{path}' has no rating column, so a rating threshold of {threshold:g} says nothing. Leave it out."
            )
        rated = events.ratings >= threshold
        dropped["rating"] = int((kept & ~rated).sum())
        kept &= rated
    if drop_doubles:
        doubled = doubles(events, kept)
        dropped["double"] = int(doubled.sum())
        kept &= ~doubled
    if min_user_events > 1:
        frequent = np.bincount(events.users[kept], minlength=len(events.user_ids)) >= min_user_events
        of_frequent = frequent[events.users]
        dropped["user_with_few_events"] = int((kept & ~of_frequent).sum())
        kept &= of_frequent
    if not kept.any():
        reasons = ", ".join(f"{count} by {reason}" for reason, count in dropped.items() if count)
        raise DataError(
            f"'{path}': none of {len(kept)} interactions is left (dropped: {reasons}). Loosen the settings."
        )
    return kept, dropped


def _copy_images(catalog: Catalog, root: Path, folder: Path) -> tuple[Catalog, int]:
    """Copy the images to FOLDER/images; the catalog with their new paths (null where there is none), their number."""
    root, copied = root.resolve(), []
    for name in catalog.table["image"].to_pylist():
        source = image_file(root, name) if name else None
        if source is None:
            copied.append(None)
            continue
        inside = Path("images", *source.relative_to(root).parts[source.relative_to(root).parts[0] == "images" :])
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / inside)
        copied.append(inside.as_posix())
    named = sum(bool(name) and "://" not in name for name in catalog.table["image"].to_pylist())  # an URL is no file
    num_copied = len(copied) - copied.count(None)
    if named and not num_copied:
        raise DataError(
            f"the items name {named} image files, but none of them lies under '{root}'. "
            "Say where they lie with --image-root, or remove the column."
        )
    position = catalog.table.column_names.index("image")
    return Catalog(catalog.table.set_column(position, "image", pa.array(copied, pa.string()))), num_copied
