"""Examples of alignment tasks: a prompt about an item or after a history, and an answer that is an item or a text.

What the tasks are stands in llmrec.prompting.alignment. Letters: N examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.data.interactions import Histories
from llmrec.errors import ModelError
from llmrec.items.forms import NO_TARGET
from llmrec.items.plain_text import plain_ids
from llmrec.prompting.encoder import PromptEncoder

CHARACTERS_A_TOKEN = 4  # of English; example lengths only have to tell long examples from short ones


@dataclass(frozen=True, eq=False)
class Shown:
    """What each of N examples shows and what it is about: the first cuts[n] items of histories[users[n]], and the item (or user)
    about[n], whose tokens or text are the answer. users, cuts, about: int64 (N,), users ascending."""

    histories: Histories
    users: np.ndarray
    cuts: np.ndarray
    about: np.ndarray

    @classmethod
    def of_items(cls, num_items: int) -> Shown:
        """Each item on its own, as a history of one; every example is a user of its own."""
        items = np.arange(num_items, dtype=np.int64)
        return cls(Histories(np.arange(num_items + 1), items), items, np.ones_like(items), items)

    @classmethod
    def of_events(cls, histories: Histories) -> Shown:
        """Each event after the ones before it; a user's first event has none and gives no example."""
        lengths = histories.lengths
        users = np.repeat(np.arange(len(histories)), np.maximum(lengths - 1, 0))
        first = np.zeros(len(histories.items), dtype=bool)
        first[histories.indptr[:-1][lengths > 0]] = True
        events = np.flatnonzero(~first)
        return cls(histories, users, events - histories.indptr[users], histories.items[events].astype(np.int64))

    @classmethod
    def of_users(cls, histories: Histories) -> Shown:
        """The whole history of each user who has one."""
        users = np.flatnonzero(histories.lengths)
        return cls(histories, users, histories.lengths[users], users)

    def where(self, kept: np.ndarray) -> Shown:
        """The examples of a mask, bool (N,)."""
        return Shown(self.histories, self.users[kept], self.cuts[kept], self.about[kept])


class AlignmentExamples:
    """Examples of one task for a collator: the prompt, and after it the tokens of an item, or a text and EOS.

    item_sizes: float (num_items,), about how many tokens an item takes in the prompt. answers: a text for each value of `shown.about`;
    None answers with the item's own tokens. queries: likewise, what a prompt with {{ instruction }} is told. max_answer_tokens: of a
    text answer, EOS included; a longer one is cut and then has no EOS, for it does not end there.
    Raises ModelError for a tokenizer without EOS.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        shown: Shown,
        item_sizes: np.ndarray,
        *,
        answers: Sequence[str] | None = None,
        queries: Sequence[str] | None = None,
        max_answer_tokens: int,
    ) -> None:
        if answers is not None and encoder.tokenizer.eos_token_id is None:
            raise ModelError(
                "a text answer ends with the tokenizer's EOS, but this tokenizer has none. Leave out the alignment tasks that are "
                "answered in words, or choose another backbone."
            )
        self.encoder = encoder
        self.shown = shown
        self.item_sizes = item_sizes
        self.answers = answers
        self.queries = queries
        self.max_answer_tokens = max_answer_tokens

    @property
    def lengths(self) -> list[int]:
        """About how many tokens each example has: of the items shown, the query and the answer."""
        shown, histories = self.shown, self.shown.histories
        before = np.concatenate([[0.0], np.cumsum(self.item_sizes[histories.items])])
        stops = histories.indptr[shown.users] + shown.cuts
        lengths = before[stops] - before[stops - self.encoder.num_shown(shown.cuts)]
        for texts in (self.answers, self.queries):
            if texts is not None:
                tokens = np.array([len(text) for text in texts]) / CHARACTERS_A_TOKEN
                lengths = lengths + np.minimum(tokens, self.max_answer_tokens)[shown.about]
        return np.ceil(lengths).astype(int).tolist()

    @property
    def users(self) -> np.ndarray:
        """int64 (N,), ascending: the history each example is of; for examples of items, each its own."""
        return self.shown.users

    def __len__(self) -> int:
        return len(self.shown.users)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """input_ids: int32 (T,); labels: int64 (T,), the answer's tokens and nothing else."""
        shown, about = self.shown, int(self.shown.about[row])
        history = shown.histories[int(shown.users[row])][: int(shown.cuts[row])]
        query = None if self.queries is None else self.queries[about]
        prompt = self.encoder.encode(history, query)  # (T_prompt,)
        answer = self.encoder.item_tokens[about] if self.answers is None else self.text_answer(self.answers[about])
        input_ids = np.concatenate([prompt, answer]).astype(np.int32)
        labels = input_ids.astype(np.int64)
        labels[: len(prompt)] = NO_TARGET
        return {"input_ids": input_ids, "labels": labels}

    def text_answer(self, text: str) -> np.ndarray:
        """Its words and EOS, or its first words alone where it is too long to end: int32 (at most max_answer_tokens,)."""
        tokenizer = self.encoder.tokenizer
        (words,), _ = plain_ids([text], tokenizer, self.max_answer_tokens)
        ids = [*words, tokenizer.eos_token_id]
        return np.array(ids[: self.max_answer_tokens], dtype=np.int32)
