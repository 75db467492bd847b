"""What answers "does this user like this item?": one small protocol for models, baselines and language models alike.

Letters: N rows.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from llmrec.data.click_examples import ClickExamples


class ClickScorer(Protocol):
    """name: what JSON calls it; card: facts that its numbers depend on, JSON values, without the name."""

    name: str

    @property
    def card(self) -> dict[str, Any]:
        """Settings, inputs, seeds."""
        ...

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float (N,) in [0, 1]. Labels are never read."""
        ...
