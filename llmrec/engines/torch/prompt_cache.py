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


class _Blocks:
    """Keys and values of all prompts, in blocks of _BLOCK tokens of one piece of memory.

    Tensors of many sizes that come and go for hours would leave gaps that nobody fills. The system gives pages of the piece
    when they are first written to.
    """

    def __init__(self, states: list[LayerStates], max_bytes: int) -> None:
        """states: of any prompt, (G, T, C) each: all others have as many layers, heads and channels."""
        self._shapes = [(each.shape[0], each.shape[2]) for layer in states for each in layer]
        self._widths = [heads * channels for heads, channels in self._shapes]
        example, width = states[0][0], sum(self._widths)
        self.block_bytes = _BLOCK * width * example.element_size()
        self.num_blocks = max_bytes // self.block_bytes
        self._held = example.new_empty(self.num_blocks, _BLOCK, width)
        self._free = list(range(self.num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def write(self, states: list[LayerStates]) -> list[int]:
        """Keeps the states of one prompt, (G, T, C) each: the blocks that hold them."""
        rows = torch.cat([each.transpose(0, 1).flatten(1) for layer in states for each in layer], dim=1)  # (T, width)
        taken = [self._free.pop() for _ in range(_num_blocks(len(rows)))]
        for block, part in zip(taken, rows.split(_BLOCK), strict=True):
            self._held[block, : len(part)] = part
        return taken

    def read(self, blocks: list[int], num_tokens: int) -> list[LayerStates]:
        """A copy of what was written: (G, T, C) each."""
        rows = self._held[torch.tensor(blocks, device=self._held.device)].flatten(0, 1)[:num_tokens]
        parts = [
            part.unflatten(1, shape).transpose(0, 1)
            for part, shape in zip(rows.split(self._widths, dim=1), self._shapes, strict=True)
        ]
        return list(zip(parts[::2], parts[1::2], strict=True))

    def free(self, blocks: list[int]) -> None:
        """Gives blocks back."""
        self._free += blocks


def _num_blocks(num_tokens: int) -> int:
    return -(-num_tokens // _BLOCK)


@dataclass(frozen=True, eq=False)
class _Entry:
    """tokens: int32 (T,). blocks: where its keys and values lie."""

    tokens: np.ndarray
    blocks: list[int]
    prefixes: list[int]


class PromptCache:
    """Prompts read before, the least recently used forgotten first. Of one backbone, and good until its weights change."""

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: of keys and values; a token takes layers x 2 x G x C numbers (SmolLM2-135M: 45 KiB in float32), a prompt whole
        blocks of 16 tokens."""
        self.max_bytes = max_bytes
        self._blocks: _Blocks | None = None  # made when the first prompt shows what its states are
        self._entries: OrderedDict[int, _Entry] = OrderedDict()  # oldest use first
        self._begin_with: dict[int, dict[int, None]] = {}  # hash of a prompt's first tokens -> entries, oldest first
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks in use."""
        blocks = self._blocks
        return 0 if blocks is None else (blocks.num_blocks - blocks.num_free) * blocks.block_bytes

    def num_known(self, prompt: np.ndarray) -> int:
        """The most tokens from the prompt's start that were read before, never all of them."""
        return min(self._most_like(prompt)[1], len(prompt) - 1)

    def longest(self, prompt: np.ndarray) -> tuple[int, list[LayerStates]]:
        """`num_known`, and every layer's states of (at least) those tokens, (G, >= length, C) each, copied. (0, []) where there is
        nothing of use."""
        name, shared = self._most_like(prompt)
        length = min(shared, len(prompt) - 1)
        if name is None or length < 1:
            return 0, []
        self._entries.move_to_end(name)
        entry = self._entries[name]
        return length, self._blocks.read(entry.blocks, len(entry.tokens))

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
        states = make_states()
        if self._blocks is None:
            self._blocks = _Blocks(states, self.max_bytes)
        if _num_blocks(len(prompt)) > self._blocks.num_blocks:
            return
        if name is not None and shared == len(self._entries[name].tokens):
            self._forget(name)
        while self._blocks.num_free < _num_blocks(len(prompt)):
            self._forget(next(iter(self._entries)))
        entry = _Entry(np.array(prompt, dtype=np.int32), self._blocks.write(states), prefixes)
        self._entries[self._next] = entry
        for prefix in prefixes:
            self._begin_with.setdefault(prefix, {})[self._next] = None
        self._next += 1

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
        self._blocks.free(entry.blocks)
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
