"""A bounded memory of what the model keeps of the prompts it has read.

Two things recur between requests: the instruction that all prompts begin with, and the history of a returning user, which is
the old prompt and a few items more. Both are prompts that begin like one already read, so one memory serves both: it looks
for the prompt that shares the most tokens from the start, and only what follows is read anew.

Letters: B requests, T prompt tokens, G key-value heads, C channels of a head.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.decoder import OwnCausalLM
from llmrec.engines.torch.tree_cache import LayerStates, TreeCache

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

_BLOCK = 16  # prompts are found again by their first 16, 32, 48, ... tokens
_LOOKED_AT = 256  # of the prompts that share the last whole block, the latest so many are compared to their ends


def empty_cache(backbone: Backbone) -> TreeCache | Cache:
    """A cache with room for a tree, of the kind that the backbone's model appends to."""
    if isinstance(backbone.causal_lm, OwnCausalLM):
        return TreeCache()
    from llmrec.engines.torch.transformers_cache import transformers_cache  # here: it imports transformers

    return transformers_cache()


@dataclass(frozen=True, eq=False)
class _Entry:
    """tokens: int32 (T,). states: for every layer keys and values (G, T, C)."""

    tokens: np.ndarray
    states: list[LayerStates]
    prefixes: list[int]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for layer in self.states for each in layer)


class PromptCache:
    """Prompts read before, the least recently used forgotten first. Of one backbone, and good until its weights change."""

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: of keys and values; a token takes layers x 2 x G x C numbers (SmolLM2-135M: 45 KiB in float32)."""
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[int, _Entry] = OrderedDict()  # oldest use first
        self._begin_with: dict[int, dict[int, None]] = {}  # hash of a prompt's first tokens -> entries, oldest first
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def longest(self, prompt: np.ndarray) -> tuple[int, list[LayerStates]]:
        """The most tokens from the prompt's start that were read before, never all of them, and every layer's states of (at
        least) those, (G, >= length, C) each. (0, []) where there is nothing of use."""
        name, shared = self._most_like(prompt)
        length = min(shared, len(prompt) - 1)
        if name is None or length < 1:
            return 0, []
        self._entries.move_to_end(name)
        return length, self._entries[name].states

    def store(self, prompt: np.ndarray, make_states: Callable[[], list[LayerStates]]) -> None:
        """Remembers a prompt, int (T,), instead of one that it continues. make_states: gives its states, (G, T, C) each, to
        keep; it is not called for a prompt that is known or too short to be found again."""
        name, shared = self._most_like(prompt)
        if name is not None and shared == len(prompt):
            self._entries.move_to_end(name)
            return
        prefixes = _prefixes(prompt)
        if not prefixes:
            return
        entry = _Entry(np.array(prompt, dtype=np.int32), make_states(), prefixes)
        if entry.nbytes > self.max_bytes:
            return
        if name is not None and shared == len(self._entries[name].tokens):
            self._forget(name)
        self._entries[self._next] = entry
        for prefix in prefixes:
            self._begin_with.setdefault(prefix, {})[self._next] = None
        self._next += 1
        self.nbytes += entry.nbytes
        while self.nbytes > self.max_bytes:
            self._forget(next(iter(self._entries)))

    def clear(self) -> None:
        """Forgets everything, as after a change of the weights."""
        for name in list(self._entries):
            self._forget(name)

    def _most_like(self, prompt: np.ndarray) -> tuple[int | None, int]:
        """The entry that shares the most first tokens with the prompt, and how many; (None, 0) for less than a block."""
        for prefix in reversed(_prefixes(prompt)):
            best, most = None, _BLOCK - 1  # fewer are shared where two beginnings have one hash
            for name in itertools.islice(reversed(self._begin_with.get(prefix, {})), _LOOKED_AT):
                shared = _num_shared(self._entries[name].tokens, prompt)
                if shared > most:
                    best, most = name, shared
            if best is not None:
                return best, most
        return None, 0

    def _forget(self, name: int) -> None:
        entry = self._entries.pop(name)
        self.nbytes -= entry.nbytes
        for prefix in entry.prefixes:
            del self._begin_with[prefix][name]
            if not self._begin_with[prefix]:
                del self._begin_with[prefix]


def _num_shared(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two prompts begin with alike."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(np.argmax(differs)) if differs.any() else length


def _prefixes(prompt: np.ndarray) -> list[int]:
    """Hashes of the first 16, 32, 48, ... tokens."""
    tokens = np.asarray(prompt, dtype=np.int32)
    return [hash(tokens[:stop].tobytes()) for stop in range(_BLOCK, len(tokens) + 1, _BLOCK)]


def known_states(found: list[tuple[int, list[LayerStates]]], device: torch.device) -> tuple[Tensor, list[LayerStates]]:
    """The beginnings of B prompts side by side: their lengths int64 (B,), and for every layer keys and values (B, G, T, C),
    T being the longest; zeros after the others' ends. No layers where nothing is known."""
    lengths = torch.tensor([length for length, _ in found])
    longest = int(lengths.max())
    num_layers = max(len(states) for _, states in found)
    template = next((states for length, states in found if length), [])
    layers = []
    for layer in range(num_layers):
        pair = []
        for part in range(2):
            example = template[layer][part]
            side = example.new_zeros(len(found), example.shape[0], longest, example.shape[2])
            for row, (length, states) in enumerate(found):
                if length:
                    side[row, :, :length] = states[layer][part][:, :length]
            pair.append(side)
        layers.append((pair[0], pair[1]))
    return lengths.to(device), layers
