"""LLaRA's curriculum (Liao et al., SIGIR 2024): prompts in words alone at first, then more and more of them with soft tokens.

At optimiser step t of T an example keeps its soft tokens with probability t / T and is otherwise read without them, as if its prompt
never had any. Which examples those are depends on the seed, the step and the example's own tokens, so a training that was killed and
goes on repeats them, whatever the number of processes and of examples per batch.

Letters: B rows, T tokens.
"""

from __future__ import annotations

import hashlib

import torch
from pydantic import Field
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmrec.config import Settings
from llmrec.items.forms import NO_TARGET
from llmrec.training.objectives import Batch


class CurriculumSettings(Settings):
    """schedule=curriculum."""

    until: float = Field(1.0, gt=0, le=1)  # the share of the training after which every example has its soft tokens


class Curriculum(TrainerCallback):
    """Knows how far the training is and takes soft tokens out of padded batches accordingly."""

    def __init__(self, soft_ids: range, *, seed: int, until: float = 1.0) -> None:
        """soft_ids: the token ids that are soft tokens. until: the share of the training after which no example is without them."""
        self.soft_ids = soft_ids
        self.seed = seed
        self.until = until
        self.step: int | None = None  # None: training has not begun, examples are as they are
        self.num_steps = 1

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Called by the Trainer before each optimiser step."""
        self.step, self.num_steps = state.global_step, state.max_steps

    def share_in_words(self, step: int) -> float:
        """The probability that an example of this step is read without soft tokens: from 1 down to 0, in a straight line."""
        return max(0.0, 1.0 - step / (self.until * self.num_steps))

    def __call__(self, batch: Batch) -> Batch:
        """The batch, padded on the right, with this step's examples in words."""
        if self.step is None:
            return batch
        share = self.share_in_words(self.step)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        in_words = [
            self._draw(row[: int(length)]) < share for row, length in zip(ids.cpu(), mask.sum(1).tolist(), strict=True)
        ]
        is_soft = (ids >= self.soft_ids.start) & (ids < self.soft_ids.stop)
        return without_tokens(batch, is_soft & torch.tensor(in_words, device=ids.device)[:, None])

    def _draw(self, ids: torch.Tensor) -> float:
        """A number in [0, 1) for this row at this step."""
        digest = hashlib.blake2b(f"{self.seed},{self.step},".encode() + ids.numpy().tobytes(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56


def without_tokens(batch: Batch, is_out: torch.Tensor) -> Batch:
    """The examples of a batch, padded on the right, without the tokens marked: is_out bool (B, T). No longer than its longest example.

    batch: input_ids, attention_mask, labels, each int64 (B, T).
    """
    mask = batch["attention_mask"] * ~is_out  # (B, T)
    longest = int(mask.sum(1).max())
    order = (1 - mask).argsort(dim=1, stable=True)[:, :longest]  # what stays first, in its order
    mask = mask.gather(1, order)
    return {
        "input_ids": batch["input_ids"].gather(1, order) * mask,  # padding is word 0
        "attention_mask": mask,
        "labels": batch["labels"].gather(1, order).masked_fill(mask == 0, NO_TARGET),
    }
