"""Attention over a packed sequence (llmrec.prompting.packing): every token sees its own example's tokens before it and nothing else.

Token j is seen by token i exactly where j <= i < seen_until[j]. Two ways compute that, with the same result:

- On a CPU the queries are cut into blocks, and a block meets only the keys that one of its tokens sees. A block that is one plain
  segment runs torch's causal attention; one of branches runs masked attention over its ancestors and itself. Work and memory
  grow with the sum over rows, not with the square of the pack.
- On CUDA flex attention gets the condition as a block mask, which skips what nobody sees.

The language model itself is not changed: while a packed sequence is read, its configuration names the attention function registered
here, and the layout travels as a keyword argument, as transformers' AttentionInterface intends.

Letters: T packed tokens, A attention heads, G key-value heads, C channels of a head, Q queries of a block, K its keys.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PACKED = "llmrec_packed"
# Queries a block of branches has at most. Larger blocks meet more keys that their tokens do not see, smaller ones copy shared keys
# more often. A step on one CPU thread: within 2 % of the best size where 50 branches hang on one history, and 12 % faster than
# with 128 where branches are of different users.
BLOCK_QUERIES = 32


@dataclass(frozen=True)
class Block:
    """Queries [start, stop) and the spans of keys that one of them sees, the block itself last. is_segment: tokens of a single example,
    which see nothing outside and all before them inside."""

    start: int
    stop: int
    key_spans: tuple[tuple[int, int], ...]
    is_segment: bool


class PackedLayout:
    """Who sees whom in one packed sequence, and how attention is cut up for it.

    seen_until, position_ids: int64 (1, T), as `PackingCollator` makes them.
    """

    def __init__(self, seen_until: Tensor, position_ids: Tensor) -> None:
        assert seen_until.shape == position_ids.shape and len(seen_until) == 1, (seen_until.shape, position_ids.shape)
        self.seen_until, self.positions = seen_until[0], position_ids[0]  # (T,)
        self.device = seen_until.device
        on_cpu = self.device.type == "cpu"
        self.blocks = _blocks(self.seen_until, self.positions) if on_cpu else []
        self._masks: dict[Any, Any] = {}  # the same for all layers of a kind

    def block_mask(self, number: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to block `number`'s scores, (1, 1, Q, K) of 0 and -inf; None: plain causal attention."""
        block = self.blocks[number]
        if window is not None and window >= int(self.positions[block.start : block.stop].max()) + 1:
            window = None  # nobody in this block sees farther anyway
        if block.is_segment and window is None:
            return None
        if (number, window, dtype) not in self._masks:
            queries = torch.arange(block.start, block.stop)[:, None]  # (Q, 1)
            keys = torch.cat([torch.arange(*span) for span in block.key_spans])  # (K,)
            seen = (keys <= queries) & (queries < self.seen_until[keys])
            if window is not None:
                seen &= self.positions[queries] - self.positions[keys] < window
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, float("-inf"))
            self._masks[number, window, dtype] = mask[None, None]
        return self._masks[number, window, dtype]

    def flex_mask(self, window: int | None) -> Any:
        """The condition as flex attention's BlockMask."""
        from torch.nn.attention.flex_attention import create_block_mask  # here: importing it costs a second

        if window not in self._masks:
            seen_until, positions = self.seen_until, self.positions

            def is_seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                seen = (key <= query) & (query < seen_until[key])
                return seen if window is None else seen & (positions[query] - positions[key] < window)

            length = len(seen_until)
            self._masks[window] = create_block_mask(is_seen, None, None, length, length, device=self.device)
        return self._masks[window]


def _blocks(seen_until: Tensor, positions: Tensor) -> list[Block]:
    """Cuts the queries at every root, and within a tree between branches so that a block has about BLOCK_QUERIES queries."""
    length = len(positions)
    cuts = (torch.nonzero(positions[1:] != positions[:-1] + 1).flatten() + 1).tolist()  # where branches and roots begin
    starts = [0]
    for cut, stop in zip(cuts, [*cuts[1:], length], strict=False):
        if positions[cut] == 0 or stop - starts[-1] > BLOCK_QUERIES:
            starts.append(cut)
    blocks = []
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        outside = torch.nonzero(seen_until[:start] > start).flatten()  # ascending: tokens before the block that it sees
        breaks = (torch.nonzero(outside.diff() != 1).flatten() + 1).tolist()
        spans = [(int(run[0]), int(run[-1]) + 1) for run in outside.tensor_split(breaks) if len(run)]
        is_segment = not spans and bool((seen_until[start:stop] >= stop).all())
        blocks.append(Block(start, stop, (*spans, (start, stop)), is_segment))
    return blocks


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    packed_layout: PackedLayout,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature. query (1, A, T, C), key and value (1, G, T, C) -> (1, T, A, C).

    Like transformers' own sdpa it knows no soft cap of the scores.
    """
    assert attention_mask is None, "a packed sequence needs no mask besides its layout"
    if query.device.type != "cpu":
        assert not dropout, "flex attention has no dropout of attention weights"
        flex = _compiled_flex_attention()
        mask = packed_layout.flex_mask(sliding_window)
        query, key = query.to(value.dtype), key.to(value.dtype)  # autocast does so for torch's own attention only
        out = flex(query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
        return out.transpose(1, 2).contiguous(), None
    outs = []
    for number, block in enumerate(packed_layout.blocks):
        mask = packed_layout.block_mask(number, sliding_window, query.dtype)
        out = F.scaled_dot_product_attention(
            query[:, :, block.start : block.stop],
            _gather(key, block.key_spans),
            _gather(value, block.key_spans),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # (1, A, Q, C)
        outs.append(out.transpose(1, 2))
    return torch.cat(outs, dim=1), None


def _gather(states: Tensor, spans: tuple[tuple[int, int], ...]) -> Tensor:
    """states (1, G, T, C) -> (1, G, K, C); one span is a view."""
    parts = [states[:, :, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


_flex: list[Any] = []


def _compiled_flex_attention() -> Any:
    """torch's flex attention, compiled once per process."""
    if not _flex:
        from torch.nn.attention.flex_attention import flex_attention

        _flex.append(torch.compile(flex_attention, dynamic=True))
    return _flex[0]


@contextmanager
def packed(config: Any) -> Iterator[None]:
    """While open, the model of this configuration attends by `packed_attention`; transformers then makes no masks of its own."""
    _register()
    before = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        yield
    finally:
        config._attn_implementation = before


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface  # here: who only answers may do without transformers

    AttentionInterface.register(PACKED, packed_attention)
