"""Peak memory and time of `llmrec recommend --users` over files of different numbers of users.

The users are drawn at random (seeded), 20 items each, written as one parquet file; the command runs in a process of its own and the
system is asked for the peak of its resident memory. There is no peer: the result is whether memory grows with the users.

    python benchmarks/many_users.py --data DATA_FOLDER --users 100000 1000000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HISTORY = 20  # items of a user
PIECE = 50_000  # users that are drawn and written at a time


def flags() -> argparse.ArgumentParser:
    """The flags of this bench."""
    parser = harness.parser(__doc__, quick={"users": [2000, 20_000]})
    parser.add_argument(
        "--data", type=Path, required=True, help="a prepared data folder: its items, and what the baseline learns from"
    )
    parser.add_argument("--baseline", default="popularity")
    parser.add_argument("--users", type=int, nargs="+", default=[100_000, 1_000_000])
    return parser


def run(options: argparse.Namespace) -> dict:
    """A row for each number of users."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measured(options, Path(folder), num_users) for num_users in options.users]
    return {"baseline": options.baseline, "history": HISTORY, "rows": rows}


def _measured(options: argparse.Namespace, folder: Path, num_users: int) -> dict:
    users, out = folder / "users.parquet", folder / "lists.parquet"
    _write(users, options.data, num_users)
    arguments = [
        "recommend",
        "--baseline",
        options.baseline,
        "--data",
        options.data,
        "--users",
        users,
        "--out",
        out,
        "--force",
    ]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "llmrec", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    harness.require_identical(status == 0 and pq.read_metadata(out).num_rows == num_users, "rows and users")
    return {
        "users": num_users,
        "peak_mib": round(used.ru_maxrss / 1024),
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(used.ru_utime + used.ru_stime),
        "result_mib": round(out.stat().st_size / 2**20, 1),
    }


def _write(path: Path, data: Path, num_users: int) -> None:
    ids = pq.read_table(data / "items.parquet", columns=["item_id"])["item_id"].combine_chunks()
    rng = np.random.default_rng(0)
    schema = pa.schema({"user_id": pa.string(), "history": pa.list_(pa.string())})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num_users, PIECE):
            count = min(PIECE, num_users - start)
            items = ids.take(pa.array(rng.integers(0, len(ids), HISTORY * count)))
            histories = pa.ListArray.from_arrays(np.arange(0, HISTORY * count + 1, HISTORY, dtype=np.int32), items)
            names = [f"user {number}" for number in range(start, start + count)]
            writer.write_table(pa.table([pa.array(names), histories.cast(schema.field(1).type)], schema))


def main() -> None:
    """Prints the rows."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
