"""Training examples and batches. Examples are made one at a time, when they are asked for; only `Collator` knows torch.

Letters: N users' histories, B examples of a batch, T tokens.

| examples | prompt | what is a target |
|---|---|---|
| AllPositionExamples | bare | every item of a window of the history, each event of a user once per epoch |
| LastItemExamples | any | one item per example, after the prompt of what came before it |

An example's labels lie where its tokens lie (the loss shifts, as in transformers); -100 is no target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError
from llmrec.items.forms import NO_TARGET
from llmrec.prompting.encoder import PromptEncoder


class AllPositionExamples:
    """Windows over users' histories in which every item is a target of the items before it.

    A window holds as many items as a request shows (`PromptEncoder.num_fitting`) and one more, so its last target
    sees exactly the prompt that inference would give it. A user with more events has several windows, laid from the newest
    end backwards; each new one ends in the middle of the one before. A window's targets are the events no newer window
    has, so every event is a target once per epoch, with at least half a window before it where the history is that long.
    The very first event is a target too, after the start token alone.
    Raises ConfigError unless the encoder's prompt is bare.
    """

    def __init__(self, encoder: PromptEncoder, histories: Histories) -> None:
        if encoder.prompt.kind != "bare":
            raise ConfigError(
                f"all-position targets read the items one after another, so it needs a bare prompt such as next_item/bare; "
                f"'{encoder.prompt.task}/{encoder.prompt.name}' is a {encoder.prompt.kind} prompt. "
                "Choose a bare prompt, or train on last items: prompt.targets=last_item."
            )
        if encoder.prompt_sequences is not encoder.item_tokens and encoder.item_tokens.max_length > 1:
            raise ConfigError(
                "all-position targets predict each item where it stands in the prompt, so an item whose form in the prompt is not "
                f"that of its answer has to be an answer of one token; the form '{encoder.item_tokens.form}' has "
                f"{encoder.item_tokens.max_length}. "
                "Train on last items: prompt.targets=last_item."
            )
        self.encoder = encoder
        self.histories = histories
        windows = [
            (user, *window)
            for user in range(len(histories))
            for window in _windows(encoder, encoder.prompt_sequences.lengths[histories[user]])
        ]
        # (W, 4): user, start, first target, end (positions within the user's history)
        self.windows = np.array(windows, dtype=np.int64).reshape(-1, 4)

    @property
    def lengths(self) -> list[int]:
        """Items of each example: examples of like length make batches with little padding."""
        return (self.windows[:, 3] - self.windows[:, 1]).tolist()

    @property
    def users(self) -> np.ndarray:
        """int (W,), ascending: whose history each example is of."""
        return self.windows[:, 0]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """input_ids: int32 (T,); labels: int64 (T,)."""
        user, start, first_target, end = self.windows[row].tolist()
        items, num_context = self.histories[user][start:end], first_target - start
        prompt_sequences, answers, prefix = self.encoder.prompt_sequences, self.encoder.item_tokens, self.encoder.prefix
        input_ids = np.concatenate([np.asarray(prefix, dtype=np.int32), prompt_sequences.flatten(items)])
        ends = len(prefix) + np.cumsum(prompt_sequences.lengths[items])
        if prompt_sequences is answers:
            labels = input_ids.astype(np.int64)
            labels[: ends[num_context - 1] if num_context else len(prefix)] = NO_TARGET
            return {"input_ids": input_ids, "labels": labels}
        firsts = (ends - prompt_sequences.lengths[items])[num_context:]  # where each target begins in the prompt
        labels = np.full(len(input_ids), NO_TARGET, dtype=np.int64)
        labels[firsts] = answers.sequences[items[num_context:], 0]
        return {"input_ids": input_ids[: firsts[-1] + 1], "labels": labels[: firsts[-1] + 1]}


def _windows(encoder: PromptEncoder, lengths: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, first target, end) of one user's windows, newest first. lengths: int (H,), tokens of each item."""
    windows, end = [], len(lengths)
    while end > 0:
        start = end - 1 - encoder.num_fitting(lengths[: end - 1])
        first_target = start + (end - start) // 2 if start else 0
        windows.append((start, first_target, end))
        end = first_target
    return windows


class LastItemExamples:
    """One target per example: the prompt of a history, and after it the tokens of the item that followed.

    targets: int (N,), the item that followed each history; None takes every event of every history after its first as the
    target of the events before it.
    """

    def __init__(
        self, encoder: PromptEncoder, histories: Histories, targets: Sequence[int] | np.ndarray | None = None
    ) -> None:
        self.encoder = encoder
        self.histories = histories
        self.targets = targets
        lengths = histories.lengths
        if targets is not None:
            assert len(targets) == len(histories), (len(targets), len(histories))
            self._users, self._cuts = np.arange(len(histories)), lengths
        else:
            self._users = np.repeat(np.arange(len(histories)), np.maximum(lengths - 1, 0))
            later = np.ones(len(histories.items), dtype=bool)
            later[histories.indptr[:-1][lengths > 0]] = False
            self._cuts = np.flatnonzero(later) - histories.indptr[self._users]

    @property
    def lengths(self) -> list[int]:
        """History items of each example: examples of like length make batches with little padding."""
        return self.encoder.num_shown(self._cuts).tolist()

    @property
    def users(self) -> np.ndarray:
        """int (num_rows,), ascending: the history each example is of. Its examples stand oldest first."""
        return self._users

    def __len__(self) -> int:
        return len(self._users)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """input_ids: int32 (T,); labels: int64 (T,), the answer's tokens and nothing else."""
        events, cut = self.histories[int(self._users[row])], int(self._cuts[row])
        target = events[cut] if self.targets is None else self.targets[row]
        rendered = self.encoder.encode_with_spans(events[:cut], answer=int(target))
        return {"input_ids": rendered.input_ids, "labels": rendered.labels}


@dataclass(frozen=True)
class Collator:
    """Examples to a batch, padded on the right: `input_ids`, `attention_mask`, `labels`, each int64 (B, T)."""

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(row["input_ids"]) for row in rows])
        shape = (len(rows), int(lengths.max()))  # (B, T)
        input_ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        labels = np.full(shape, NO_TARGET, dtype=np.int64)
        for position, row in enumerate(rows):
            input_ids[position, : lengths[position]] = row["input_ids"]
            labels[position, : lengths[position]] = row["labels"]
        attention_mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        return {name: torch.from_numpy(values) for name, values in batch.items()}
