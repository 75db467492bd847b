"""Many training examples in one packed sequence: no padding, and prefixes that examples share are read once.

The examples of a batch are laid out as a forest of token prefixes in the order of a depth-first walk, so that a token's
descendants stand right after it:

    example 1: h h a b x        packed:      h h a b x | y | c z        seen_until: 8 8 6 5 5 | 6 | 8 8
    example 2: h h a y          position:    0 1 2 3 4 | 3 | 2 3
    example 3: h h c z

Token j is part of the example that token i belongs to exactly where j <= i < seen_until[j]. That one comparison is the whole attention
mask, and with true positions the model computes for every token what it would compute in the token's own example, so loss and
gradient are those of the separate examples. Nothing is assumed about prompts: what is shared is found in the token ids themselves.
Where nothing is shared the same layout is plain segments, one after the other. Batches of one user's examples
(training.packing=branches) share most: the history once, and a branch of cue and answer for each target.

Letters: B examples, T packed tokens, N targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from llmrec.items.forms import NO_TARGET
from llmrec.prompting.collators import Collator

Collate = Callable[[Sequence[dict[str, np.ndarray]]], dict[str, torch.Tensor]]
# Sharing less than this costs more than it saves: a BOS, or a BOS and the first code; or an eighth of the shorter example.
MIN_SHARED, MIN_SHARED_PART = 8, 8
# Packed lengths are rounded up, or every batch would be of a new size: kernels are prepared and kept for each size they meet, which
# in a few hundred steps takes more memory than the model. Less than SMALLEST_MULTIPLE or an eighth of the length is added, and less
# than MULTIPLE.
MULTIPLE, SMALLEST_MULTIPLE = 64, 16


@dataclass(frozen=True)
class PackingCollator:
    """Examples to one packed sequence. The batch: `input_ids`, `position_ids`, `seen_until`, each int64 (1, T); `predict_at` and
    `labels`, each int64 (N,): the hidden state at index predict_at[n] predicts the token labels[n]. Targets stand example by example.
    What follows an example's last such index is left out: nothing is predicted from the answer's last token.

    share_prefixes: a prefix that examples share stands once, where that saves time; dropout then falls on it once as well. False is
    for comparisons. multiple: T is rounded up to one; None: as `MULTIPLE` says.
    """

    share_prefixes: bool = True
    multiple: int | None = None

    def __call__(self, rows: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        is_target = [row["labels"][1:] != NO_TARGET for row in rows]  # of each token, that it predicts the next
        ids = [row["input_ids"][: _num_needed(is_t)] for row, is_t in zip(rows, is_target, strict=True)]
        batch, indices = packed(ids, min_shared=MIN_SHARED if self.share_prefixes else None, multiple=self.multiple)
        found = [at[is_t[: len(at)]] for at, is_t in zip(indices, is_target, strict=True)]
        labels = [row["labels"][1:][is_t] for row, is_t in zip(rows, is_target, strict=True)]
        return {
            **batch,
            "predict_at": torch.from_numpy(np.concatenate(found)),
            "labels": torch.from_numpy(np.concatenate(labels)),
        }


def packed(
    ids: Sequence[np.ndarray], *, min_shared: int | None = MIN_SHARED, multiple: int | None = None
) -> tuple[dict[str, torch.Tensor], list[np.ndarray]]:
    """Token sequences in one: `input_ids`, `position_ids`, `seen_until`, each int64 (1, T), and where each sequence's tokens stand.

    ids: B arrays, each int32 (T_b,). min_shared, and what is returned second: see `place_rows`. multiple: see `PackingCollator`.
    """
    indices, length = place_rows(ids, min_shared=min_shared)
    padding = -length % (multiple or _multiple(length))
    input_ids = np.zeros(length + padding, dtype=np.int64)
    position_ids = np.zeros(length + padding, dtype=np.int64)
    position_ids[length:] = np.arange(padding)  # an example of its own, which nothing is predicted from
    for row_ids, row_indices in zip(ids, indices, strict=True):
        input_ids[row_indices] = row_ids
        position_ids[row_indices] = np.arange(len(row_ids))
    batch = {"input_ids": input_ids, "position_ids": position_ids, "seen_until": seen_until(position_ids)}
    return {name: torch.from_numpy(values)[None] for name, values in batch.items()}, indices


def pack_prompts(prompts: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """A packed batch of prompts, each int32 (T_b,), whose last tokens' states are asked for: `PackingCollator`'s, without labels."""
    # a token after each prompt makes its last one predict something; the token itself is left out again
    labels = [np.append(np.full(len(prompt), NO_TARGET, np.int64), 0) for prompt in prompts]
    rows = [
        {"input_ids": np.append(prompt, np.int32(0)), "labels": of_prompt}
        for prompt, of_prompt in zip(prompts, labels, strict=True)
    ]
    batch = PackingCollator()(rows)
    return {name: batch[name] for name in ("input_ids", "position_ids", "seen_until", "predict_at")}


def _num_needed(is_target: np.ndarray) -> int:
    """Tokens of an example up to the last that predicts something, at least one. is_target: bool (T_b - 1,)."""
    return int(np.flatnonzero(is_target)[-1]) + 1 if is_target.any() else 1


def _multiple(length: int) -> int:
    """The power of two that a packed length is rounded up to a multiple of."""
    return min(MULTIPLE, max(SMALLEST_MULTIPLE, 1 << max(length.bit_length() - 4, 0)))


def make_collator(packing: Literal["none", "segments", "branches"], pad_token_id: int) -> Collate:
    """What makes batches of examples under a setting of training.packing."""
    return Collator(pad_token_id) if packing == "none" else PackingCollator()


def place_rows(rows: Sequence[np.ndarray], *, min_shared: int | None) -> tuple[list[np.ndarray], int]:
    """Where every token of every example stands, int64 (T_b,) per example, and the number T of packed tokens.

    rows: B arrays of token ids, each int32 (T_b,). min_shared: examples share a beginning of at least so many tokens, and an eighth of
    the shorter example; None: they share nothing. Below a shared beginning the longest example goes on first, so that a growing
    history is one unbroken run of tokens and the other examples are branches of it.
    """
    order = sorted(range(len(rows)), key=lambda row: rows[row].astype(">u4").tobytes())
    shared = [0] * len(rows)  # tokens each example shares with the one before it in `order`
    if min_shared is not None:
        for at in range(1, len(rows)):
            common = _common_prefix(rows[order[at - 1]], rows[order[at]])
            shorter = min(len(rows[order[at - 1]]), len(rows[order[at]]))
            shared[at] = common if common >= max(min_shared, shorter / MIN_SHARED_PART) else 0
    indices: list[np.ndarray] = [np.zeros(0, np.int64)] * len(rows)
    length = 0
    groups = (
        [(0, len(rows), np.zeros(0, np.int64))] if rows else []
    )  # sorted examples [low, high), and where their common beginning stands
    while groups:
        low, high, beginning = groups.pop()
        longest = max(range(low, high), key=lambda at: len(rows[order[at]]))
        num_new = len(rows[order[longest]]) - len(beginning)
        index = np.concatenate([beginning, np.arange(length, length + num_new)])
        indices[order[longest]] = index
        length += num_new
        branches = _branches(shared, low, longest, high)
        # last in, first out: the branch that leaves latest comes next, as a depth-first walk wants
        groups += [(start, stop, index[:common]) for common, start, stop in sorted(branches)]
    return indices, length


def _branches(shared: list[int], low: int, longest: int, high: int) -> list[tuple[int, int, int]]:
    """(common, start, stop): examples [start, stop) share exactly `common` tokens with example `longest`, both sides of it apart."""
    common = [0] * (high - low)
    for at in range(longest - 1, low - 1, -1):
        common[at - low] = min(shared[at + 1], common[at + 1 - low]) if at + 1 < longest else shared[at + 1]
    for at in range(longest + 1, high):
        common[at - low] = min(shared[at], common[at - 1 - low]) if at - 1 > longest else shared[at]
    found: list[tuple[int, int, int]] = []
    for side in (range(low, longest), range(longest + 1, high)):
        start = side.start
        for at in side:
            if at + 1 == side.stop or common[at + 1 - low] != common[at - low]:
                found.append((common[at - low], start, at + 1))
                start = at + 1
    return found


def seen_until(position_ids: np.ndarray) -> np.ndarray:
    """For each token one past its last descendant, from the depths of a depth-first walk. int64 (T,) -> int64 (T,)."""
    length = len(position_ids)
    result = np.full(length, length, dtype=np.int64)
    starts = np.flatnonzero(np.diff(position_ids, prepend=-2) != 1)  # where a run of consecutive positions begins
    open_runs: list[
        tuple[int, int]
    ] = []  # (start, stop) of tokens whose descendants may still come, positions ascending
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        depth = position_ids[start]
        while open_runs:
            first, last = open_runs[-1]
            kept = int(np.clip(depth - position_ids[first], 0, last - first))  # of this run, those above the new depth
            result[first + kept : last] = start
            if kept:
                open_runs[-1] = (first, first + kept)
                break
            open_runs.pop()
        open_runs.append((start, stop))
    return result


def _common_prefix(one: np.ndarray, other: np.ndarray) -> int:
    shorter = min(len(one), len(other))
    different = one[:shorter] != other[:shorter]
    return int(different.argmax()) if different.any() else shorter
