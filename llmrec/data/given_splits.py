"""Splits that lie in a data folder, because they were published or fixed elsewhere: DATA/splits/NAME/.

| file | what |
|---|---|
| split.json | `source`, `rule` (whose rows, which history), `asked_events`, `content_hash` of the data it divides |
| train, valid, test.parquet | click examples, with the columns of `llmrec.data.click_files` |
| train, valid, test_users.parquet | or users, int32 `user` in the data folder's numbering, whose last event is asked |

asked_events: how many of each user's last events are asked by some row, and so are no events to learn from (0: none of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.folder import SPLITS, Data
from llmrec.data.formats import read_parquet
from llmrec.data.interactions import integers
from llmrec.data.reading import reading
from llmrec.data.splits import Split, of_users
from llmrec.errors import DataError
from llmrec.files import content_hash, read_json, write_arrow, write_json

CARD = "split.json"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class SplitCard:
    """What split.json says; see above."""

    source: str
    rule: str
    asked_events: int
    content_hash: str

    def save(self, folder: Path) -> None:
        """Writes it into the folder of the split, once the tables are there."""
        write_json(folder / CARD, vars(self))


def given_split_names(folder: Path) -> list[str]:
    """The splits that lie in a data folder."""
    return sorted(path.parent.name for path in (folder / SPLITS).glob(f"*/{CARD}"))


def find_given_split(data: Data, name: str, table: str) -> Path:
    """The folder of the split `name` of these data, which has `table`, such as "test.parquet".

    Raises DataError for data in memory, and where there is no such split, naming those that there are.
    """
    folder = data.folder
    if folder is None:
        raise DataError(
            f"the split '{name}' lies in a data folder, but these data are in memory. Load them from a folder."
        )
    place = folder / SPLITS / name
    if not (place / CARD).is_file() or not (place / table).is_file():
        there = [other for other in given_split_names(folder) if (folder / SPLITS / other / table).is_file()]
        raise DataError(
            f"'{folder}' has no split '{name}' with a table {table} (it has {', '.join(there) or 'none'}). Make the "
            "data folder of a published set with `llmrec data published`, or choose a task that divides any data."
        )
    return place


def read_split_card(folder: Path, data: Data) -> SplitCard:
    """What split.json in the folder of a split says. DataError where it does not hold what it should, or was made for other data."""
    values = read_json(folder / CARD, "card of the split", DataError)
    kinds = {"source": str, "rule": str, "asked_events": int, "content_hash": str}
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind) or (name == "asked_events" and values[name] < 0):
            raise DataError(f"'{folder / CARD}' should say {name} ({kind.__name__}), but says {values.get(name)!r}.")
    if values["content_hash"] != data.content_hash():
        raise DataError(
            f"the split in '{folder}' was made for other data ({values['content_hash']}) than lie there now ({data.content_hash()}). "
            "Make the data folder again."
        )
    return SplitCard(**{name: values[name] for name in kinds})


def write_user_tables(folder: Path, users: dict[str, np.ndarray]) -> None:
    """The users of each of PARTS, int32 (N,), as tables of the folder of a split."""
    for part in PARTS:
        write_arrow(folder / f"{part}_users.parquet", pa.table({"user": pa.array(users[part], pa.int32())}))


def read_user_tables(folder: Path, num_users: int) -> dict[str, np.ndarray]:
    """The users of each of PARTS: int32 (N,), as they lie there.

    Raises DataError for a table that is missing or not of this shape, users that the data lack, and a user who is in two parts.
    """
    found = {}
    for part in PARTS:
        path = folder / f"{part}_users.parquet"
        with reading(path, "a table with the column user", KeyError, TypeError):
            found[part] = integers(read_parquet(path)["user"], np.int32, f"'user' in '{path}'")
        users = found[part]
        if not len(users) or users.min() < 0 or users.max() >= num_users:
            raise DataError(
                f"'{path}' should name users from 0 to {num_users - 1}, but names "
                f"{f'{users.min()} to {users.max()}' if len(users) else 'none'}."
            )
    everybody = np.concatenate(list(found.values()))
    if len(np.unique(everybody)) < len(everybody):
        raise DataError(
            f"the users of the split in '{folder}' should be in one of its parts each, but some are twice in them."
        )
    return found


def given_user_split(data: Data, name: str, *, max_events: int) -> Split:
    """The users that lie in the data folder as the split `name`: those of `train` are learned from, the last event of others is asked.

    max_events: of each user only the last so many count, the target among them. Raises DataError where the folder has no such split, it
    was made for other data, or a user has nothing to be asked by.
    """
    folder = find_given_split(data, name, "test_users.parquet")
    card = read_split_card(folder, data)
    users = read_user_tables(folder, data.interactions.num_users)
    lacking = [user for part in ("valid", "test") for user in users[part] if data.interactions.lengths[user] < 2]
    if lacking:
        raise DataError(
            f"the split in '{folder}' asks about {len(lacking)} users with fewer than 2 events, such as "
            f"'{data.user_ids[lacking[0]]}'. Leave them out of its tables."
        )
    parts = ", ".join(content_hash(users[part]) for part in PARTS)
    settings = {"name": name, "source": card.source, "rule": card.rule, "content": parts}
    tables = [users[part] for part in PARTS]
    tables = [users[part] for part in PARTS]
    return of_users(data.interactions, *tables, name="given_users", settings=settings, max_events=max_events)
