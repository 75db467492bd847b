"""Items that leave a catalogue and come back as new ones: the data of `benchmarks/cold_items.py`, and who is asked for them.

A share of the items, sampled by seed, is held out of everything: their rows leave the catalogue and their events the histories. Asked
are users whose last event is a held-out item, and as many others for their own last event. Their histories hold no held-out item: a
held-out event that is not the user's last is left out.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.folder import Data, load_data
from llmrec.data.readers import read_interactions, read_items
from llmrec.data.splits import Instances, Split
from llmrec.evaluation.tasks import load_task
from llmrec.files import read_json, write_arrow, write_json

_DONE = "held.json"


def llmrec(*arguments: object) -> None:
    """One command, shown as it would be typed."""
    words = [str(argument) for argument in arguments]
    print(f"llmrec {shlex.join(words)}", file=sys.stderr)
    if status := subprocess.run([sys.executable, "-m", "llmrec", *words], stdout=sys.stderr).returncode:
        sys.exit(f"cold_items: that command ended with status {status}; see what it says above.")


def hold_out(source: Path, folder: Path, share: float, seed: int) -> None:
    """Writes `folder`/warm and `folder`/asked, both data folders, and `folder`/new_items.parquet, unless they are there."""
    made_of = {
        "items": _size(source / "items.jsonl.gz"),
        "events": _size(source / "interactions.tsv.gz"),
        "share": share,
        "seed": seed,
    }
    if (folder / _DONE).is_file():
        if read_json(folder / _DONE, "what was held out") != made_of:
            sys.exit(f"cold_items: '{folder}' holds other data or another share of them; name another --work.")
        return
    shutil.rmtree(folder, ignore_errors=True)  # half of it, at most
    items, events = read_items(source / "items.jsonl.gz"), read_interactions(source / "interactions.tsv.gz")
    rng = np.random.default_rng(seed)
    titled = np.flatnonzero(pc.fill_null(pc.not_equal(items["title"], ""), False))  # add-items asks for titles
    is_new = np.zeros(len(items), bool)
    is_new[rng.choice(titled, round(share * len(items)), replace=False)] = True
    new_ids = items["item_id"].filter(pa.array(is_new)).combine_chunks()
    of_new = np.asarray(pc.is_in(events["item_id"].cast(pa.string()), new_ids))
    users = events["user_id"].combine_chunks().indices.to_numpy()
    order = np.lexsort((np.arange(len(users)), events["step"].to_numpy(), users))
    last = np.zeros(len(users), bool)
    last[order[np.append(np.diff(users[order]) != 0, True)]] = True
    tables = {
        "warm_items": items.filter(pa.array(~is_new)),
        "new_items": items.filter(pa.array(is_new)),
        "warm_events": events.filter(pa.array(~of_new)),
        "asked_events": events.filter(pa.array(~of_new | last)),
    }
    # the old items first, in their order: the catalogue of a run that the new ones were added to
    tables["all_items"] = pa.concat_tables([tables["warm_items"], tables["new_items"]])
    for name, table in tables.items():
        write_arrow(folder / f"{name}.parquet", table)
    for name, which in (("warm", "warm_items"), ("asked", "all_items")):
        llmrec(
            "data", "prepare", "--items", folder / f"{which}.parquet",
            "--interactions", folder / f"{name}_events.parquet", "--out", folder / name,
        )  # fmt: skip
    write_json(folder / _DONE, made_of)


def _size(path: Path) -> int:
    return path.stat().st_size


@dataclass(frozen=True)
class Asked:
    """Users whose last event is a new item, and as many others. data: with the new items, which come last; old_data: without."""

    of_new: Instances
    of_old: Instances
    split: Split
    data: Data
    old_data: Data
    new_items: np.ndarray  # int64

    @property
    def old_items(self) -> np.ndarray:
        """int64, those before the new ones."""
        return np.arange(self.new_items[0])

    def instances(self, kind: str) -> Instances:
        """Of the kind "new_target" or "old_target"."""
        return self.of_new if kind == "new_target" else self.of_old

    def names(self, kind: str) -> dict[str, list[str]]:
        """The users and the targets of a kind as they are called outside."""
        asked = self.instances(kind)
        return {
            "users": [self.data.user_ids[user] for user in asked.users.tolist()],
            "items": [self.data.catalog.item_id(item) for item in asked.targets.tolist()],
        }


def who_is_asked(folder: Path, max_instances: int, seed: int) -> Asked:
    """The test instances of `folder`/asked; items from the number of `folder`/warm's on are new."""
    data, old_data = load_data(folder / "asked"), load_data(folder / "warm")
    split = load_task("leave_one_out").make(data)
    num_old = old_data.catalog.num_items
    is_new = split.test.targets >= num_old
    rng = np.random.default_rng(seed)
    of_new, of_old = (rng.permutation(np.flatnonzero(rows))[:max_instances] for rows in (is_new, ~is_new))
    of_old = np.sort(of_old[: len(of_new)])
    new_items = np.arange(num_old, data.catalog.num_items)
    assert split.train.counts()[new_items].sum() == 0, "no new item has an event before the last of a user"
    return Asked(_take(split.test, np.sort(of_new)), _take(split.test, of_old), split, data, old_data, new_items)


def _take(instances: Instances, rows: np.ndarray) -> Instances:
    return Instances(instances.users[rows], instances.histories.take(rows), instances.targets[rows], None)
