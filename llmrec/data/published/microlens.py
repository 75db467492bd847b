"""MicroLens-50K with the click rows and the users of RecBench's rules: DATA/splits/recbench and DATA/splits/recbench_users.

SOURCE holds items.jsonl.gz, interactions.tsv.gz (user_id, item_id, step), recbench_ctr/ (finetune, test.tsv.gz: user_id, item_id,
label; valid_users.txt.gz) and recbench_seq/ (finetune_users, test_users.txt.gz).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmrec.data.click_examples import ClickExamples, padded
from llmrec.data.click_files import write_click_examples
from llmrec.data.folder import SPLITS, Data
from llmrec.data.given_splits import SplitCard, write_user_tables
from llmrec.data.prepare import prepare
from llmrec.data.published.tables import labels_of, lines_of, rows_of
from llmrec.errors import DataError

ASKED = 2  # a user's last two events are the liked items of the rows
RULE = "a user's last 2 events liked, 2 items never touched not; history: the user's events but the last 2"
USERS_RULE = (
    "5,000 test users and 40,000 others to learn from, of which 10 % validate (seed 0); a user's last event is asked"
)


def make(source: Path, out: Path, name: str, terms: str) -> None:
    """Writes the data folder `out` with both splits. Raises DataError for files that are missing or do not fit one another."""
    data = prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", out, name=name, terms=terms)
    users = {user_id: user for user, user_id in enumerate(data.user_ids)}
    asked = {part: _examples(data, users, source / "recbench_ctr" / f"{part}.tsv.gz") for part in ("finetune", "test")}
    valid_users = _numbers(users, lines_of(source / "recbench_ctr" / "valid_users.txt.gz"), source / "recbench_ctr")
    is_valid = np.isin(asked["finetune"].users, valid_users)
    parts = {
        "train": asked["finetune"].take(~is_valid),
        "valid": asked["finetune"].take(is_valid),
        "test": asked["test"],
    }
    folder = out / SPLITS / "recbench"
    for part, examples in parts.items():
        write_click_examples(folder / f"{part}.parquet", examples)
    SplitCard(f"{name}/recbench_ctr", RULE, ASKED, data.content_hash()).save(folder)
    folder = out / SPLITS / "recbench_users"
    finetune, test = (_numbers(users, lines_of(source / "recbench_seq" / f"{part}_users.txt.gz"), source / "recbench_seq")
                      for part in ("finetune", "test"))  # fmt: skip
    # the files leave open which tenth of the users validates
    valid = np.sort(np.random.default_rng(0).permutation(finetune)[: round(len(finetune) / 10)])
    write_user_tables(folder, {"train": np.setdiff1d(finetune, valid), "valid": valid, "test": np.sort(test)})
    SplitCard(f"{name}/recbench_seq", USERS_RULE, 1, data.content_hash()).save(folder)


def _numbers(users: dict[str, int], user_ids: list[str], source: Path) -> np.ndarray:
    unknown = [user_id for user_id in user_ids if user_id not in users]
    if unknown:
        raise DataError(
            f"'{source}' splits users that its interactions lack ({unknown[0]}). Its files do not belong together."
        )
    return np.array([users[user_id] for user_id in user_ids], np.int32)


def _examples(data: Data, users: dict[str, int], path: Path) -> ClickExamples:
    """The rows with all events but a user's last ASKED as the history."""
    rows = rows_of(path, {"user_id": str, "item_id": str, "label": str})
    numbers = _numbers(users, [row["user_id"] for row in rows], path)
    item_ids = [row["item_id"] for row in rows]
    known = data.catalog.contains(item_ids)
    if not known.all():
        raise DataError(
            f"'{path}' asks about the item {item_ids[known.argmin()]}, which the items lack. Its files do not belong together."
        )
    items, labels = data.catalog.index(item_ids), labels_of(rows, path)
    earlier = data.interactions.head(ASKED).histories
    histories = padded([earlier[user] for user in numbers])
    zeros = np.zeros(len(rows), np.int32)
    return ClickExamples(numbers, items, labels, histories, zeros, zeros.copy(), None)
