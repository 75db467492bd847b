"""Files between llmrec and a peer in its own environment: what it learns from and is asked, and the scores it wrote as a recommender.

Letters: U requests, I items, k the length of a list.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import ROOT
from quality_plan import PeerPlan

from llmrec.data.interactions import Interactions
from llmrec.data.splits import Instances
from llmrec.errors import ConfigError, DataError
from llmrec.files import read_json, write_arrow, write_json
from llmrec.recommenders.requests import DenseRecommender, Ranking, Requests

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SCRIPTS = ROOT / "benchmarks" / "peers"


class PeerFailed(DataError):
    """A peer that ended without its scores."""


class _OfRequests:
    """Answers for the requests it was written for, found by their users: one request a user."""

    def __init__(self, name: str, card: dict, num_items: int, users: np.ndarray) -> None:
        self.name, self.num_items, self._card = name, num_items, card
        self._order = np.argsort(users)
        self._users = users[self._order]
        if len(np.unique(users)) != len(users):
            raise DataError("a peer's scores are found by user, but some user is asked twice in this split.")

    @property
    def card(self) -> dict:
        """The package and its settings."""
        return self._card

    def rows(self, requests: Requests) -> np.ndarray:
        """The row of each request: int64 (U,). Raises DataError for a user the peer was not asked for."""
        places = np.searchsorted(self._users, requests.users).clip(max=len(self._users) - 1)
        if not np.array_equal(self._users[places], requests.users):
            raise DataError(f"'{self.name}' was not asked for some of these users. Let the peer score them anew.")
        return self._order[places]


class ScoresFile(_OfRequests, DenseRecommender):
    """Scores of all items from NAME.scores.npy, float32 (U, I), read as they are needed."""

    def __init__(self, name: str, card: dict, file: Path, users: np.ndarray, num_items: int) -> None:
        super().__init__(name, card, num_items, users)
        self._scores = _read(file, np.float32, (len(users), num_items))

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I)."""
        return self._scores[self.rows(requests)]


class ListsFile(_OfRequests):
    """Lists from NAME.items.npy, int32 (U, k), and NAME.scores.npy, float32 (U, k), made without the history's items."""

    def __init__(self, name: str, card: dict, items: Path, scores: Path, users: np.ndarray, num_items: int) -> None:
        super().__init__(name, card, num_items, users)
        self._items = _read(items, np.int32, (len(users), None))
        self._scores = _read(scores, np.float32, self._items.shape)

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """The first k of each list. Raises ConfigError for what a finished list cannot answer."""
        if not exclude_seen or candidates is not None or k > self._items.shape[1]:
            raise ConfigError(
                f"'{self.name}' wrote lists of {self._items.shape[1]} without seen items: it can answer nothing else."
            )
        rows = self.rows(requests)
        return Ranking(np.array(self._items[rows, :k]), np.array(self._scores[rows, :k]))

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """A list has no scores of other items."""
        raise ConfigError(f"'{self.name}' wrote lists, so it cannot score candidates.")


def _read(file: Path, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array, memory-mapped. Raises DataError where it is another one than expected."""
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise DataError(f"cannot read '{file}' ({problem}). Let the peer write it again.") from problem
    fits = len(found.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if found.dtype != dtype or not fits:
        raise DataError(
            f"'{file}' should hold {np.dtype(dtype)} {shape} but holds {found.dtype} {found.shape}. Let the peer write it again."
        )
    return found


def write_events(file: Path, events: Interactions) -> None:
    """user, item: int32, by user and oldest first."""
    users = np.repeat(np.arange(events.num_users, dtype=np.int32), events.lengths)
    write_arrow(file, pa.table({"user": users, "item": events.items}))


def write_requests(file: Path, instances: Instances) -> None:
    """request, user, item: int32, each request's history, oldest first; no targets."""
    rows = np.repeat(np.arange(len(instances), dtype=np.int32), instances.histories.lengths)
    table = {"request": rows, "user": instances.users[rows], "item": instances.histories.items}
    write_arrow(file, pa.table(table))


class Answers:
    """One peer, trained on `events` and asked `asked` (name -> instances): its scores lie in a folder that goes with this object."""

    def __init__(
        self, name: str, plan: PeerPlan, events: Interactions, asked: dict[str, Instances], *, work: Path, k: int, seed: int,
        budget_min: float,
    ) -> None:  # fmt: skip
        self.name, self.plan, self.asked, self.num_items = name, plan, asked, events.num_items
        work.mkdir(parents=True, exist_ok=True)
        self._place = tempfile.TemporaryDirectory(dir=work, prefix=f".{name}-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name).absolute()
        write_events(self.folder / "train.parquet", events)
        for subset, instances in asked.items():
            write_requests(self.folder / f"{subset}.parquet", instances)
        job = {
            "model": plan.model, "settings": plan.settings, "seed": seed, "budget_s": 60 * budget_min, "k": k,
            "num_users": events.num_users, "num_items": events.num_items, "train": str(self.folder / "train.parquet"),
            "asked": {subset: str(self.folder / f"{subset}.parquet") for subset in asked},
        }  # fmt: skip
        write_json(self.folder / "job.json", job)
        code = start(SCRIPTS / f"{plan.script}_peer.py", self.folder / "job.json")
        if code:
            cause = "used up its budget of CPU time" if code in (-24, -9) else f"ended with the code {code}"
            raise PeerFailed(f"{name} {cause}; what it wrote on standard error says more.")
        self.result = read_json(self.folder / "peer.json", "result of a peer")

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()

    def recommender(self, subset: str) -> ScoresFile | ListsFile:
        """What the peer wrote for the requests of this name."""
        items, scores = (self.folder / f"{subset}.{what}.npy" for what in ("items", "scores"))
        users, card = self.asked[subset].users, {"package": self.plan.script, **self.plan.settings}
        if items.exists():
            return ListsFile(self.name, card, items, scores, users, self.num_items)
        return ScoresFile(self.name, card, scores, users, self.num_items)


def start(script: Path, *arguments: object) -> int:
    """Runs a script in the peers' environment: its exit code, negative for a signal. Raises ConfigError without that environment."""
    if not PYTHON.exists():
        raise ConfigError(
            "the peers have an environment of their own, which is not here. Make it with: make setup-peers"
        )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([PYTHON, script, *map(str, arguments)], env=environment, stdout=subprocess.DEVNULL).returncode


def answer_of(script: Path, *arguments: object) -> dict:
    """The JSON object that a script of the peers' environment prints last."""
    done = subprocess.run([PYTHON, script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise PeerFailed(f"{script.name} ended with the code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
