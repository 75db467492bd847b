"""What a peer's script shares with benchmarks/quality.py: a job in, scores out. Runs in the peers' environment and imports no llmrec.

    .venv-peers/bin/python benchmarks/peers/implicit_peer.py JOB.json

JOB.json: model, settings, seed, budget_s, k, num_users, num_items, train (parquet: user, item; oldest first within a user) and
asked, name -> parquet (request, user, item: each request's history, oldest first, requests 0..U-1). Written into the job's own folder:
NAME.scores.npy, float32 (U, I); or, where a package gives lists alone, NAME.items.npy, int32 (U, k) padded with -1, and
NAME.scores.npy, float32 (U, k) padded with -inf; last peer.json: CPU seconds and what the peer has to say about its training.

Letters: U requests, E events, I items of the catalogue, R rows of one call, k the length of a list.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

ROWS_AT_ONCE = 1024
SPARE_SECONDS = 240  # of CPU time beyond the budget, for imports and scoring, before the system ends the process


@dataclass(frozen=True)
class Events:
    """What is learned from: users, items int64 (E,), by user and oldest first; weight 1 each."""

    users: np.ndarray
    items: np.ndarray
    num_users: int
    num_items: int

    def matrix(self) -> sp.csr_matrix:
        """float32 (users, I): 1 where a user has an item."""
        return _binary(self.users, self.items, (self.num_users, self.num_items))


@dataclass(frozen=True)
class Asked:
    """U requests: users int64 (U,); rows, items int64 (E,): the request of each event of the histories, oldest first."""

    users: np.ndarray
    rows: np.ndarray
    items: np.ndarray
    num_items: int

    def __len__(self) -> int:
        return len(self.users)

    def matrix(self, recency: float = 1.0) -> sp.csr_matrix:
        """float32 (U, I): recency^a at each distinct item of the history, a = 0 for the latest and 1 more for each one before it."""
        if recency == 1.0:
            return _binary(self.rows, self.items, (len(self), self.num_items))
        keys = (self.rows * self.num_items + self.items)[::-1]
        latest = np.sort(
            len(keys) - 1 - np.unique(keys, return_index=True)[1]
        )  # the last place of each (request, item)
        rows, items = self.rows[latest], self.items[latest]
        age = np.searchsorted(rows, rows, side="right") - 1 - np.arange(len(rows))
        weights = np.float32(recency) ** age.astype(np.float32)
        return sp.csr_matrix((weights, (rows, items)), shape=(len(self), self.num_items))


def _binary(rows: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, items)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


class Peer:
    """A model of a package. `fit` learns and returns facts for the result (JSON values); `scores` or `lists` answers."""

    def __init__(self, settings: dict, seed: int, budget_s: float) -> None:
        self.settings, self.seed, self.budget_s = dict(settings), seed, budget_s

    def fit(self, events: Events) -> dict:
        """Learn within budget_s seconds of CPU time."""
        raise NotImplementedError

    def scores(self, asked: Asked, rows: slice) -> np.ndarray:
        """Scores of all items for these requests, float32 (R, I)."""
        raise NotImplementedError

    def lists(self, asked: Asked, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """items int32 (U, k), scores float32 (U, k), without the history's items; None: `scores` is asked."""
        return None


def main(models: Mapping[str, type[Peer]], packages: tuple[str, ...]) -> None:
    """Does the job that the command line names."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    # A training that does not stop in time is ended by the system: no result is better than one out of line with its budget.
    limit = int(time.process_time() + job["budget_s"] + SPARE_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    table = pd.read_parquet(job["train"])
    users, items = (table[name].to_numpy(np.int64) for name in ("user", "item"))
    events = Events(users, items, job["num_users"], job["num_items"])
    peer = models[job["model"]](job["settings"], job["seed"], job["budget_s"])
    start = time.process_time()
    facts = peer.fit(events)
    train, score = time.process_time() - start, {}
    print(f"  trained in {train:.0f} CPU s", file=sys.stderr)
    for name, file in job["asked"].items():
        asked = _asked(pd.read_parquet(file), job["num_items"])
        start = time.process_time()
        _answer(peer, asked, job["k"], path.parent, name)
        score[name] = time.process_time() - start
    versions = {package: metadata.version(package) for package in packages}
    result = {"cpu_seconds": {"train": train, "score": score}, "facts": facts, "versions": versions}
    (path.parent / "peer.json").write_text(json.dumps(result))


def _asked(table: pd.DataFrame, num_items: int) -> Asked:
    requests, users, items = (table[name].to_numpy(np.int64) for name in ("request", "user", "item"))
    numbers, first = np.unique(requests, return_index=True)
    assert np.array_equal(numbers, np.arange(len(numbers))), "requests are numbered from 0 and none is empty"
    return Asked(users[first], requests, items, num_items)


def _answer(peer: Peer, asked: Asked, k: int, folder: Path, name: str) -> None:
    lists = peer.lists(asked, k)
    if lists is not None:
        np.save(folder / f"{name}.items.npy", lists[0].astype(np.int32), allow_pickle=False)
        np.save(folder / f"{name}.scores.npy", lists[1].astype(np.float32), allow_pickle=False)
        return
    shape = (len(asked), asked.num_items)
    out = np.lib.format.open_memmap(folder / f"{name}.scores.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(asked), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        out[rows] = peer.scores(asked, rows)
    out.flush()
