"""From a csv of interactions to a split: read, match items, sort, write the data folder, load it, leave one out.

    python benchmarks/data.py --events 10000000 --users 500000 --items 100000 --threads 1 --json

Events are random, each with its own time, in random order, so nothing comes sorted. Every round is a process of its own
that reports its clocks and its peak memory (imports included; Linux's unit, KiB). `load_and_split` is what every command
pays that starts from a prepared folder. The split's targets are compared with each user's latest item before any time is
printed. There is no peer here: goals are in seconds and bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness


def write_files(folder: Path, num_events: int, num_users: int, num_items: int) -> None:
    """items.csv, events.csv, and latest.npy: int32 (num_users,), each user's item of the latest time, -1 where none."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    users, items = rng.integers(0, num_users, num_events), rng.integers(0, num_items, num_events)
    times = rng.permutation(num_events)
    latest = np.full(num_users, -1, np.int32)
    order = np.argsort(times)
    latest[users[order]] = items[order]  # of repeated users the last one stays
    latest[np.bincount(users, minlength=num_users) < 3] = -1  # leave-one-out asks nobody with fewer events
    np.save(folder / "latest.npy", latest)
    names = [f"item-{item}" for item in range(num_items)]
    csv.write_csv(pa.table({"item_id": names, "title": names}), folder / "items.csv")
    user_ids = pa.array([f"user-{user}" for user in range(num_users)])
    table = {
        "user_id": user_ids.take(pa.array(users)),
        "item_id": pa.array(names).take(pa.array(items)),
        "timestamp": pa.array(times + 1_600_000_000),
    }
    csv.write_csv(pa.table(table), folder / "events.csv")


def one_round(folder: Path) -> dict:
    """{"prepare", "load_and_split": [process s, wall s], "peak_bytes", "same"} of this process; no "prepare" where that is done."""
    import numpy as np

    from llmrec.data.folder import load_data
    from llmrec.data.prepare import prepare
    from llmrec.data.splits import leave_one_out

    result = {}
    if not (folder / "prepared").exists():
        start = clocks()
        prepare(folder / "items.csv", folder / "events.csv", folder / "prepared")
        result["prepare"] = [after - before for after, before in zip(clocks(), start, strict=True)]
    start = clocks()
    data = load_data(folder / "prepared")
    instances = leave_one_out(data.interactions).test
    result["load_and_split"] = [after - before for after, before in zip(clocks(), start, strict=True)]
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    asked = np.array([int(user_id.removeprefix("user-")) for user_id in data.user_ids])[instances.users]
    found = np.full(len(np.load(folder / "latest.npy")), -1, np.int32)
    found[asked] = instances.targets  # items are numbered as in items.csv
    result["same"] = bool(np.array_equal(found, np.load(folder / "latest.npy")))
    return result


def clocks() -> tuple[float, float]:
    """Process and wall seconds."""
    return time.process_time(), time.perf_counter()


def in_child(*words: object) -> str:
    """The output of this file started with `words`."""
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def flags() -> argparse.ArgumentParser:
    """--events, --users, --items and those of every bench."""
    parser = harness.parser(__doc__, quick={"events": 200_000, "users": 10_000, "items": 5_000, "rounds": 1}, rounds=3)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=100_000)
    return parser


def run(options: argparse.Namespace) -> dict:
    """See the harness."""
    timings = {"prepare": harness.Timing(), "load_and_split": harness.Timing(), "all": harness.Timing()}
    peaks = {"all": 0, "load_and_split": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_child("write", folder, options.events, options.users, options.items)
        for _ in range(options.rounds):
            whole, again = (json.loads(in_child("round", folder)) for _ in range(2))
            harness.require_identical(whole["same"] and again["same"], "test targets and each user's latest items")
            both = [a + b for a, b in zip(whole["prepare"], whole["load_and_split"], strict=True)]
            for stage, (process, wall) in (
                ("prepare", whole["prepare"]),
                ("load_and_split", again["load_and_split"]),
                ("all", both),
            ):
                timings[stage].process.append(process)
                timings[stage].wall.append(wall)
            for stage, child in (("all", whole), ("load_and_split", again)):
                peaks[stage] = max(peaks[stage], child["peak_bytes"])
            shutil.rmtree(folder / "prepared")
    return {
        "identical": True,
        "seconds": {stage: timing.to_json() for stage, timing in timings.items()},
        "peak_bytes": peaks,
        "goals": [
            harness.goal("loading and splitting 10,000,000 interactions", timings["all"].median_wall, 60, "s"),
            harness.goal("memory while doing so", peaks["all"] / 2**30, 4, "GiB"),
        ],
    }


def main() -> None:
    """The command line; `write` and `round` are how this file starts itself."""
    match sys.argv[1:]:
        case ["write", folder, *numbers]:
            write_files(Path(folder), *map(int, numbers))
        case ["round", folder]:
            print(json.dumps(one_round(Path(folder))))
        case _:
            harness.main(flags(), run)


if __name__ == "__main__":
    main()
