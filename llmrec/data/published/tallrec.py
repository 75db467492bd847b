"""TALLRec's films, liked and disliked, by title: DATA/splits/tallrec_movie.

SOURCE holds valid and test.jsonl.gz (liked, disliked: titles oldest first; target; label). The rows that TALLRec trained on are not
published: the published validation rows are divided, by users, into those to learn from (few-shot examples) and those to choose by.
No user is named: rows of which each goes on where the one before it ends (its target enters, the oldest title may leave) are one
user's.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples, liked_events, padded
from llmrec.data.click_files import write_click_examples
from llmrec.data.features import Features
from llmrec.data.folder import SPLITS, Data
from llmrec.data.given_splits import SplitCard
from llmrec.data.published.collm import save_published
from llmrec.data.published.tables import labels_of, rows_of

RULE = (
    "published test rows; train and valid: the published validation rows, divided by users (the training rows are not published); "
    "users: rows of which each goes on where the one before ends; history: liked and disliked titles of the row"
)


def make(source: Path, out: Path, name: str, terms: str) -> None:
    """Writes the data folder `out` with its split. Raises DataError for files that are missing or of another set."""
    columns = {"liked": list, "disliked": list, "target": str, "label": int}
    paths = {part: source / f"{part}.jsonl.gz" for part in ("valid", "test")}
    valid, test = (rows_of(path, columns) for path in paths.values())
    titles = sorted({title for row in (*valid, *test) for title in (*row["liked"], *row["disliked"], row["target"])})
    dense = {title: item for item, title in enumerate(titles)}
    catalog = Catalog.from_rows([{"item_id": title, "title": title} for title in titles])
    chosen, asked = (_examples(rows, dense, path) for rows, path in ((valid, paths["valid"]), (test, paths["test"])))
    middle = chosen.users[len(chosen) // 2]
    learned = chosen.users < middle if middle else chosen.users <= middle
    asked.users[:] += chosen.users.max() + 1  # nothing says that a user of the test rows is one of the others
    parts = {"train": chosen.take(learned), "valid": chosen.take(~learned), "test": asked}
    num_users = int(asked.users.max()) + 1
    events = liked_events(parts["train"], catalog.num_items, num_users)
    data = Data(catalog, events, Features(catalog.num_items), [str(user) for user in range(num_users)])
    save_published(data, out, name, terms)
    folder = out / SPLITS / name
    for part, rows in parts.items():
        write_click_examples(folder / f"{part}.parquet", rows)
    SplitCard(name, RULE, 0, data.content_hash()).save(folder)


def _examples(rows: list[dict], dense: dict[str, int], path: Path) -> ClickExamples:
    """Users numbered in the order of the rows."""
    histories, disliked = (
        padded([[dense[title] for title in row[name]] for row in rows]) for name in ("liked", "disliked")
    )
    starts = [True, *(not _goes_on(before, row) for before, row in pairwise(rows))]
    labels = labels_of(rows, path)
    num_liked, num_disliked = (np.array([len(row[name]) for row in rows], np.int32) for name in ("liked", "disliked"))
    items = np.array([dense[row["target"]] for row in rows], np.int32)
    users = (np.cumsum(starts) - 1).astype(np.int32)
    return ClickExamples(users, items, labels, histories, num_liked + num_disliked, num_liked, None, disliked)


def _goes_on(before: dict, row: dict) -> bool:
    liked = before["liked"] + [before["target"]] * (before["label"] == 1)
    disliked = before["disliked"] + [before["target"]] * (before["label"] != 1)
    ends = (liked[len(liked) - len(row["liked"]) :], disliked[len(disliked) - len(row["disliked"]) :])
    return ends == (row["liked"], row["disliked"]) and before["target"] in (*row["liked"], *row["disliked"])
