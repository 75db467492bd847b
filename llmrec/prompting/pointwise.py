"""Rows that ask whether a user would like one item, answered by one of two words.

The answer word stands behind the prompt and is the row's only target, so such rows are padded and packed like all others; what they
are trained on is a softmax over the two words (`llmrec.nn.losses`).

Letters: N rows, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.click_rows import PADDING, ClickRows
from llmrec.errors import ConfigError
from llmrec.items.plain_text import plain_ids
from llmrec.prompting.collators import NO_TARGET
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answer_tokens(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The tokens that the prompt's two answers begin with: liked, not liked.

    Raises ConfigError for a prompt without answers, and where both begin alike in this vocabulary.
    """
    if prompt.answers is None:
        raise ConfigError(
            f"'{prompt.task}/{prompt.name}' asks for the next item, not whether a user would like one; choose a prompt of the task "
            "click, such as click/instruction."
        )
    ids, _ = plain_ids(list(prompt.answers), tokenizer, 1)
    liked, disliked = ([*each, -1][0] for each in ids)
    if -1 in (liked, disliked) or liked == disliked:
        raise ConfigError(
            f"the answers {prompt.answers[0]!r} and {prompt.answers[1]!r} of prompt '{prompt.task}/{prompt.name}' should begin with "
            "two different tokens, but this model's tokenizer begins them alike; choose other words."
        )
    return liked, disliked


class ClickPromptRows:
    """One question a row, users ascending: the prompt of what a user liked before and of one item, and behind it the answer word."""

    def __init__(self, encoder: PromptEncoder, rows: ClickRows) -> None:
        self.encoder = encoder
        self.rows = rows.take(np.argsort(rows.users, kind="stable"))
        self.answers = answer_tokens(encoder.prompt, encoder.tokenizer)
        self._known = (self.rows.histories != PADDING).sum(axis=1)  # (N,)

    @property
    def lengths(self) -> list[int]:
        """Items each row shows: rows of like length make batches with little padding."""
        return (np.minimum(self._known, self.encoder.max_history) + 1).tolist()

    @property
    def users(self) -> np.ndarray:
        """int32 (N,), ascending."""
        return self.rows.users

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """input_ids: int32 (T,); labels: int64 (T,), the answer word's token and nothing else."""
        rows = self.rows
        history = rows.histories[row, rows.histories.shape[1] - self._known[row] :]
        prompt = self.encoder.encode(history, candidate=int(rows.items[row]))
        input_ids = np.append(prompt, np.int32(self.answers[0 if rows.labels[row] else 1]))
        labels = np.full(len(input_ids), NO_TARGET, dtype=np.int64)
        labels[-1] = input_ids[-1]
        return {"input_ids": input_ids, "labels": labels}
