"""Examples that ask whether a user would like one item, answered by one of two words.

The answer word stands after the prompt and is the example's only target, so such examples are padded and packed like all others;
what they are trained on is a softmax over the two words (`llmrec.nn.losses`).

Letters: N examples, T tokens.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.items.forms import NO_TARGET
from llmrec.prompting.answer_words import answer_words
from llmrec.prompting.encoder import PromptEncoder


class ClickPromptExamples:
    """One question per example, users ascending: the prompt of a user's liked items and of one candidate, then the answer word."""

    def __init__(self, encoder: PromptEncoder, rows: ClickExamples) -> None:
        self.encoder = encoder
        self.rows = rows.take(np.argsort(rows.users, kind="stable"))
        self.words = answer_words(encoder.prompt, encoder.tokenizer)
        self._known = (self.rows.histories != PADDING).sum(axis=1)  # (N,)

    @property
    def lengths(self) -> list[int]:
        """Items each example shows: examples of like length make batches with little padding."""
        return (self.encoder.num_shown(self._known) + 1).tolist()

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
        input_ids = np.append(prompt, np.int32(self.words.liked if rows.labels[row] else self.words.disliked))
        labels = np.full(len(input_ids), NO_TARGET, dtype=np.int64)
        labels[-1] = input_ids[-1]
        return {"input_ids": input_ids, "labels": labels}
