"""A killed evaluation goes on: what was answered lies in shards, and is not asked again.

FOLDER/.evaluation-KEY/0003.safetensors   the answers of some batches, with a digest of them

KEY is a digest of everything the answers depend on: protocol (task, data, split, the recommender's card), the instances, the weights.
Nothing is written before an evaluation has taken some seconds, and all of it goes when the work is done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from llmrec.errors import LlmrecError
from llmrec.evaluation.progress import batches
from llmrec.files import atomic_file, cache_dir, content_hash, remove_folder

SECONDS_A_SHARD = 5.0
_SMALL = 1 << 20  # bytes: a file up to here is told by its content, a larger one by its size and time
_VERSION = 1  # rises whenever the same answers would be kept in another way
Answers = dict[str, np.ndarray]


@dataclass
class Work:
    """Where the shards of one recommender's evaluations lie while they run: `with Work(run, weights_of(run)) as work: ...`.

    folder: the run's own, or a cache folder; weights: what tells these weights from others of the same card. Where the block ends
    without an error, its shards are removed; where it fails or the process dies, they stay, and the same evaluation goes on from them.
    """

    folder: Path
    weights: str = ""
    used: set[Path] = field(default_factory=set)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            for place in self.used:
                if place.is_dir():
                    remove_folder(place)
            self.used.clear()

    def place(self, *parts: str | bytes | np.ndarray | Mapping[str, Any]) -> Path:
        """The folder of the evaluation that these describe, JSON values as mappings; it may not be there."""
        plain = [json.dumps(part, sort_keys=True) if isinstance(part, Mapping) else part for part in parts]
        place = self.folder / f".evaluation-{content_hash(f'version {_VERSION}', self.weights, *plain)}"
        self.used.add(place)
        return place


def work_of(run: Path) -> Work:
    """Where a run's evaluations keep their answers: in its own folder or, where that cannot be written to, under the cache folder."""
    return Work(run if os.access(run, os.W_OK | os.X_OK) else cache_dir() / "evaluations", weights_of(run))


def weights_of(run: Path) -> str:
    """What tells a run's files from those of another training in the same folder: names and contents, of large files size and time."""
    parts: list[str | bytes] = []
    for path in sorted(run.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(run).parts):
            facts = path.stat()
            parts.append(str(path.relative_to(run)))
            parts.append(path.read_bytes() if facts.st_size <= _SMALL else f"{facts.st_size} {facts.st_mtime_ns}")
    return content_hash(*parts)


def in_shards(
    ask: Callable[[np.ndarray], Answers], num_rows: int, batch: int, what: str, *, place: Path | None = None
) -> Answers:
    """`ask` of all rows in batches: its arrays, one entry a row, joined in the rows' order.

    ask: rows int64 (M,) -> name -> array (M, ...), the same names each time. what: for the progress bar. place: from `Work.place`; the
    batches that lie there are read, others asked. A damaged shard is said to be one, removed, and its batches asked again. Raises
    LlmrecError where a shard cannot be written.
    """
    parts: dict[int, Answers] = {} if place is None else _read(place, num_rows, batch)
    unwritten: list[int] = []
    last = time.monotonic()
    for rows in batches(num_rows, batch, what, done=set(parts)):
        start = int(rows[0])
        parts[start] = ask(rows)
        unwritten.append(start)
        if place is not None and time.monotonic() - last >= SECONDS_A_SHARD:
            _write(place, {start: parts[start] for start in unwritten})
            unwritten, last = [], time.monotonic()
    ordered = [parts[start] for start in range(0, num_rows, batch)]
    return {name: np.concatenate([part[name] for part in ordered]) for name in ordered[0]} if ordered else {}


def _write(place: Path, parts: Mapping[int, Answers]) -> None:
    """One shard more, whole or not at all."""
    sizes = [len(next(iter(part.values()))) for part in parts.values()]
    arrays = {name: np.concatenate([part[name] for part in parts.values()]) for name in next(iter(parts.values()))}
    arrays |= {"starts": np.array(list(parts), np.int64), "sizes": np.array(sizes, np.int64)}
    number = 1 + max((int(path.stem) for path in place.glob("*.safetensors")), default=-1)
    with atomic_file(place / f"{number:04d}.safetensors") as temporary:
        save_file(arrays, temporary, metadata={"digest": _digest(arrays)})


def _read(place: Path, num_rows: int, batch: int) -> dict[int, Answers]:
    """The batches that lie in the shards, by their first row."""
    found: dict[int, Answers] = {}
    for path in sorted(place.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                digest = (file.metadata() or {}).get("digest")
            if digest != _digest(arrays):
                raise ValueError("its numbers are not those that were written")
            starts, sizes = arrays.pop("starts"), arrays.pop("sizes")
            ends = np.cumsum(sizes)
            for start, size, end in zip(starts.tolist(), sizes.tolist(), ends.tolist(), strict=True):
                if start % batch or size != min(batch, num_rows - start):
                    raise ValueError(f"a batch of {size} from row {start} on is none of this evaluation's")
                found[start] = {name: values[end - size : end] for name, values in arrays.items()}
        except (SafetensorError, OSError, ValueError, KeyError) as problem:
            print(f"warning: the shard '{path}' is damaged ({problem}); what it held is asked again.", file=sys.stderr)
            _remove(path)
    if found:
        num_found = sum(min(batch, num_rows - start) for start in found)
        print(f"going on with an evaluation: {num_found:,} of {num_rows:,} are answered already.", file=sys.stderr)
    return found


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        raise LlmrecError(f"cannot remove the damaged '{path}': {problem.strerror or problem}. Remove it.") from problem


def _digest(arrays: Answers) -> str:
    return content_hash(*(part for name in sorted(arrays) for part in (name, arrays[name])))
