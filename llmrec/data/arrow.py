"""Arrow as a process of the command line uses it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raises ModuleNotFoundError for pandas; knows nothing of others."""
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)


def leave_pandas_out() -> None:
    """Tells Arrow, for the rest of the process, that there is no pandas: `to_pandas` then fails.

    Where pandas is installed Arrow imports it at its first conversion of anything, which is a tenth of the time of a short command.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.scalar("")  # Arrow looks for pandas here, once for all
    finally:
        sys.meta_path.remove(finder)
