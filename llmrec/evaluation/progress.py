"""Work in batches, with a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.progress import track


def batches(num_instances: int, batch: int, what: str) -> Iterator[np.ndarray]:
    """Rows of successive batches, with a progress bar named `what` on stderr where that is a terminal."""
    rows = np.arange(num_instances)
    parts = [rows[start : start + batch] for start in range(0, num_instances, batch)]
    return iter(track(parts, what, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True))
