"""The catalogue as a prefix tree over the items' token sequences, in flat tensors.

Sorting items by their sequences (rank = place in that order) puts every node's items side by side, so a node is a range
of ranks. Nodes are numbered depth by depth, in rank order within a depth; the children of a node are then neighbours as
well. One sort builds it all; nothing is a Python object per node.

Letters: B requests, K beams, N items, M nodes, L depth (longest sequence), W children of the widest node asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import DataError, RequestError
from llmrec.items.forms import ItemTokens

ROOT = 0
_KEY_BITS = 63


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """A prefix tree whose leaves are items; no sequence is the beginning of another, equal sequences share a leaf.

    tokens: int32 (M,), the token that leads into each node, -1 for the root (node 0).
    first_child: int32 (M + 1,), the children of node n are first_child[n] .. first_child[n + 1] - 1; none for a leaf.
    starts, ends: int32 (M,), the node's items have the ranks starts .. ends - 1.
    items: int32 (N,), the item at each rank; items that share a leaf stand in ascending order.
    leaf_depths: the depths (tokens below the root) at which leaves occur, ascending; the last one is L.
    max_leaf_items: items on the fullest leaf.
    token_ranges: the lowest and highest token id at each of the L positions of an answer.
    """

    tokens: Tensor
    first_child: Tensor
    starts: Tensor
    ends: Tensor
    items: Tensor
    leaf_depths: tuple[int, ...]
    max_leaf_items: int
    token_ranges: tuple[tuple[int, int], ...]

    @classmethod
    def from_item_tokens(cls, item_tokens: ItemTokens, device: str | torch.device = "cpu") -> TokenTrie:
        """Builds the tree by one sort and one pass a depth. Raises DataError for an empty catalogue or if one item's
        tokens are the beginning of another's."""
        sequences, lengths = item_tokens.sequences, item_tokens.lengths
        if len(sequences) == 0:
            raise DataError("the catalogue has no items, so nothing can be decoded; prepare data with some.")
        items = _sorted_items(sequences)  # (N,)
        ordered, ordered_lengths = sequences[items], lengths[items]
        # (N, L): whether the first d + 1 tokens at a rank differ from those at the rank before
        is_new = np.ones(sequences.shape, dtype=bool)
        np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
        np.logical_or.accumulate(is_new, axis=1, out=is_new)

        num_items = len(items)
        starts, ends, tokens = [np.zeros(1, np.int64)], [np.array([num_items])], [np.array([-1])]
        for depth in range(sequences.shape[1]):
            bounds = np.flatnonzero(is_new[:, depth])
            reaches = ordered_lengths[bounds] > depth
            starts.append(bounds[reaches])
            ends.append(np.append(bounds[1:], num_items)[reaches])
            tokens.append(ordered[starts[-1], depth])
        num_children = [
            np.searchsorted(below, end) - np.searchsorted(below, start)
            for start, end, below in zip(starts, ends, [*starts[1:], np.zeros(0, np.int64)], strict=True)
        ]
        for depth, (start, children) in enumerate(zip(starts, num_children, strict=True)):
            ends_inside = (ordered_lengths[start] == depth) & (children > 0)  # a shorter sequence sorts first
            if depth > 0 and ends_inside.any():
                _refuse_prefix(int(start[np.argmax(ends_inside)]), depth, ordered_lengths, items)
        sizes = np.concatenate(ends) - np.concatenate(starts)
        is_leaf = np.concatenate(num_children) == 0
        trie = cls(
            tokens=_int32(np.concatenate(tokens)),
            first_child=_int32(1 + np.cumsum([0, *np.concatenate(num_children)])),
            starts=_int32(np.concatenate(starts)),
            ends=_int32(np.concatenate(ends)),
            items=_int32(items),
            leaf_depths=tuple(int(depth) for depth in np.unique(lengths)),
            max_leaf_items=int(sizes[is_leaf].max()),
            token_ranges=tuple((int(level.min()), int(level.max())) for level in tokens[1:]),
        )
        return trie.to(device)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def num_nodes(self) -> int:
        """M, the root included."""
        return len(self.tokens)

    @property
    def depth(self) -> int:
        """L: tokens of the longest sequence."""
        return self.leaf_depths[-1]

    def to(self, device: str | torch.device) -> TokenTrie:
        """The same tree with its tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "first_child", "starts", "ends", "items")}
        return replace(self, **moved)

    def children(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that may follow each node, and the nodes they lead to.

        states: int64 (...), nodes, -1 for no node. Returns tokens int64 (..., W) in ascending order and next states
        int64 (..., W), both padded with -1; W is the number of children of the widest node in `states`.
        """
        known = states.clamp(min=0)
        first = self.first_child[known].long()  # (...)
        count = (self.first_child[known + 1] - first).masked_fill(states < 0, 0)
        width = int(count.max()) if count.numel() else 0
        offsets = torch.arange(width, device=states.device)
        is_child = offsets < count[..., None]  # (..., W)
        next_states = (first[..., None] + offsets).masked_fill(~is_child, -1)
        tokens = self.tokens[next_states].long().masked_fill(~is_child, -1)
        return tokens, next_states

    def is_leaf(self, states: Tensor) -> Tensor:
        """Whether each node ends an item. states: int64 (...), -1 for no node -> bool (...), False where no node."""
        known = states.clamp(min=0)
        return (self.first_child[known + 1] == self.first_child[known]) & (states >= 0)

    def leaf_items(self, leaves: Tensor, limit: int, open_leaves: OpenLeaves | None = None) -> Tensor:
        """The items on each leaf, in ascending order, closed ones left out.

        leaves: int64 (B, K), -1 for none; limit: items a leaf at most. Returns int64 (B, K, C) padded with -1, where
        C = min(limit, max_leaf_items).
        """
        places = torch.arange(min(limit, self.max_leaf_items), device=leaves.device, dtype=torch.int32)
        known = leaves.clamp(min=0)
        start, end = self.starts[known], self.ends[known]  # (B, K)
        if open_leaves is None:
            ranks, count = start[..., None] + places, end - start  # (B, K, C), (B, K)
        else:
            ranks, count = open_leaves.ranks(start, end, places)
        is_item = (places < count[..., None]) & (leaves >= 0)[..., None]
        return self.items[ranks.masked_fill(~is_item, 0)].long().masked_fill(~is_item, -1)


class OpenLeaves:
    """Which items each request may receive, as prefix sums over ranks: a node is open if it holds such an item."""

    def __init__(self, trie: TokenTrie, allowed: np.ndarray | Tensor) -> None:
        """allowed: bool (B, N), True for items that may come out. Raises RequestError for another shape or dtype."""
        allowed = torch.as_tensor(allowed, device=trie.items.device)
        if allowed.dtype != torch.bool or allowed.ndim != 2 or allowed.shape[1] != trie.num_items:
            raise RequestError(
                f"the allowed items must be bool (requests, {trie.num_items}), one column an item of the catalogue; "
                f"they are {allowed.dtype} {tuple(allowed.shape)}."
            )
        self._trie = trie
        by_rank = allowed[:, trie.items]  # (B, N)
        # (B, N + 1): open items before each rank
        self._before = torch.nn.functional.pad(by_rank.cumsum(1, dtype=torch.int32), (1, 0))

    def is_open(self, states: Tensor) -> Tensor:
        """states: int64 (B, ...), -1 for no node -> bool (B, ...), False where no node."""
        flat = states.clamp(min=0).flatten(1)
        starts, ends = self._trie.starts[flat].long(), self._trie.ends[flat].long()
        has_open_item = self._before.gather(1, ends) > self._before.gather(1, starts)
        return has_open_item.view(states.shape) & (states >= 0)

    def ranks(self, starts: Tensor, ends: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks of the first, second, ... open item of each range (arbitrary beyond the count), and the counts.

        starts, ends: int32 (B, K); places: int32 (C,) -> ranks int64 (B, K, C), counts int32 (B, K).
        """
        before = self._before.gather(1, starts.long())  # (B, K)
        wanted = before[..., None] + places + 1  # (B, K, C): this many open items have passed after the wanted one
        found = torch.searchsorted(self._before, wanted.flatten(1).contiguous()).view(wanted.shape)
        return found - 1, self._before.gather(1, ends.long()) - before


def _sorted_items(sequences: np.ndarray) -> np.ndarray:
    """Items ordered by their sequences, then by item. sequences: int32 (N, L) -> int64 (N,).

    Neighbouring columns are packed into one 63-bit integer while they fit; the item itself joins the last one. Most
    catalogues need a single key then, and sorting plain integers is ten times faster than sorting rows.
    """
    num_items = len(sequences)
    lowest = sequences.min(axis=0)
    spans = [int(span).bit_length() for span in sequences.max(axis=0).astype(np.int64) - lowest]
    item_bits = (num_items - 1).bit_length()
    keys, used = [np.zeros(num_items, np.int64)], 0
    columns = ((sequences[:, depth] - lowest[depth], bits) for depth, bits in enumerate(spans))
    for column, bits in [*columns, (np.arange(num_items), item_bits)]:
        if used + bits > _KEY_BITS:
            keys.append(np.zeros(num_items, np.int64))
            used = 0
        keys[-1] <<= bits
        keys[-1] |= column
        used += bits
    if len(keys) == 1:
        keys[0].sort()
        return keys[0] & ((1 << item_bits) - 1)
    return np.lexsort(keys[::-1])


def _refuse_prefix(rank: int, depth: int, lengths: np.ndarray, items: np.ndarray) -> NoReturn:
    longer = rank + int(np.argmax(lengths[rank:] > depth))
    raise DataError(
        f"the tokens of item {items[rank]} are the beginning of those of item {items[longer]}, so its answer "
        "could never be told from an unfinished one. End every sequence with an end token."
    )


def _int32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
