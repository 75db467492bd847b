"""Work in batches, with a progress bar and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator

import numpy as np
from rich.console import Console
from rich.progress import Progress

SECONDS_A_LINE = 60.0  # where no bar can be drawn, such as in a log


def batches(num_instances: int, batch: int, what: str, *, done: Collection[int] = ()) -> Iterator[np.ndarray]:
    """Rows of successive batches, int64 (at most batch,), but for those whose first row is among `done`.

    On a terminal a bar named `what` with the time left; elsewhere a line a minute on standard error.
    """
    starts = [start for start in range(0, num_instances, batch) if start not in done]
    left = [np.arange(start, min(start + batch, num_instances)) for start in starts]
    num_left = sum(map(len, left))
    return (_with_bar if sys.stderr.isatty() else _with_lines)(left, num_instances, num_left, what)


def _with_bar(left: list[np.ndarray], total: int, num_left: int, what: str) -> Iterator[np.ndarray]:
    with Progress(console=Console(stderr=True), transient=True) as progress:  # bar, percentage, time left
        task = progress.add_task(what, total=total, completed=total - num_left)
        for rows in left:
            yield rows
            progress.advance(task, len(rows))


def _with_lines(left: list[np.ndarray], total: int, num_left: int, what: str) -> Iterator[np.ndarray]:
    began = said = time.monotonic()
    asked = 0
    for rows in left:
        yield rows
        asked, now = asked + len(rows), time.monotonic()
        if now - said >= SECONDS_A_LINE and asked < num_left:
            said = now
            seconds = (now - began) / asked * (num_left - asked)
            done = total - num_left + asked
            print(f"{what}: {done:,} of {total:,}, about {in_words(seconds)} left", file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """A duration as people say it: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
