"""The catalogue as a prefix tree over the items' token sequences, in a few flat columns.

Sorting items by their sequences (rank = place in that order) puts the items below every node side by side, so a node *is*
a range of ranks, and nothing has to be stored for it. The state of a node packs that range: `start << 32 | end`. Its
children are the runs of equal tokens of the next column inside the range. Where nodes are few and wide (the root, the
first levels) the runs' starts are kept in a table; below that a range is short, and its runs are found by reading it.

A million items of 4 x 256 codes take 6 MiB and one sort of packed integers.

Letters: B requests, K beams, N items, L depth (longest sequence), W children of the widest node asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import DataError
from llmrec.items.forms import ItemTokens

_KEY_BITS = 63
_END_BITS = 32
# A depth whose nodes are at most this share of the items gets a table of their starts; other nodes hold few items each.
_TABLE_SHARE = 8
_SMALLEST_TABLE = 1024


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """A prefix tree whose leaves are items; no sequence is the beginning of another, equal sequences share a leaf.

    tables: for each depth the starts of the M nodes one depth below, and N, int32 (M + 1,), or None where ranges are read.
    columns: L tensors, the next tokens less the lowest one of that depth, in the smallest integers that hold them: (M,), that
    into each node of the table, or (N,), that of the item at each rank, 0 behind its end.
    token_ranges: the lowest and highest token of each depth.
    lengths: int16 (N,), the length of the sequence at each rank; None where all have length L.
    items: int32 (N,), the item at each rank; items that share a leaf stand in ascending order.
    leaf_depths: the depths (tokens below the root) at which leaves occur, ascending; the last one is L.
    max_leaf_items: items on the fullest leaf. num_nodes: of the whole tree, the root included.
    """

    columns: tuple[Tensor, ...]
    token_ranges: tuple[tuple[int, int], ...]
    tables: tuple[Tensor | None, ...]
    lengths: Tensor | None
    items: Tensor
    leaf_depths: tuple[int, ...]
    max_leaf_items: int
    num_nodes: int

    @classmethod
    def from_item_tokens(cls, item_tokens: ItemTokens, device: str | torch.device = "cpu") -> TokenTrie:
        """Builds the tree by one sort and one pass a depth. Raises DataError for an empty catalogue or if one item's
        tokens are the beginning of another's."""
        sequences, lengths = item_tokens.sequences, item_tokens.lengths
        num_items, depth = sequences.shape
        if num_items == 0:
            raise DataError("the catalogue has no items, so nothing can be decoded; prepare data with some.")
        lowest = [int(column.min()) for column in sequences.T]
        ranges = [(low, int(column.max())) for low, column in zip(lowest, sequences.T, strict=True)]
        items = _sorted_items(sequences, ranges)  # (N,)
        is_even = int(lengths.min()) == depth
        ordered_lengths = None if is_even else lengths[items].astype(np.int16)

        columns, tables, token_ranges, num_nodes = [], [], [], 1
        is_new = np.zeros(num_items, dtype=bool)  # whether a rank's first tokens differ from those at the rank before
        is_new[0] = True
        for level, (low, high) in enumerate(ranges):
            ordered = sequences[:, level][items]  # (N,)
            differs = ordered[1:] != ordered[:-1]
            reaches = np.ones(num_items, dtype=bool) if is_even else ordered >= 0
            if not is_even:
                _refuse_prefixes(differs & ~is_new[1:] & ~reaches[:-1], items)
                low = int(ordered[reaches].min())
            is_new[1:] |= differs
            starts = np.flatnonzero(is_new & reaches)
            num_nodes += len(starts)
            has_table = len(starts) <= max(_SMALLEST_TABLE, num_items // _TABLE_SHARE)
            tables.append(_int32(np.append(starts, num_items)) if has_table else None)
            columns.append(_narrow(ordered[starts] if has_table else ordered, low, high))
            token_ranges.append((low, high))
        trie = cls(
            columns=tuple(columns),
            token_ranges=tuple(token_ranges),
            tables=tuple(tables),
            lengths=None if ordered_lengths is None else torch.from_numpy(ordered_lengths),
            items=_int32(items),
            leaf_depths=tuple(np.flatnonzero(np.bincount(lengths)).tolist()),
            max_leaf_items=int(np.diff(np.append(np.flatnonzero(is_new), num_items)).max()),
            num_nodes=num_nodes,
        )
        return trie.to(device)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def depth(self) -> int:
        """L: tokens of the longest sequence."""
        return len(self.columns)

    @property
    def root(self) -> int:
        """The state of the node all items are below."""
        return self.num_items

    @cached_property
    def ranks(self) -> Tensor:
        """The rank of each item, int32 (N,): made when a rule first asks for it, 4 bytes an item more."""
        ranks = torch.empty_like(self.items)
        ranks[self.items.long()] = torch.arange(self.num_items, dtype=torch.int32, device=ranks.device)
        return ranks

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors but `ranks`."""
        held = [*self.columns, self.items, self.lengths, *self.tables]
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def to(self, device: str | torch.device) -> TokenTrie:
        """The same tree with its tensors on `device`."""
        if self.items.device == torch.device(device):
            return self
        return replace(
            self,
            columns=tuple(column.to(device) for column in self.columns),
            tables=tuple(None if table is None else table.to(device) for table in self.tables),
            lengths=None if self.lengths is None else self.lengths.to(device),
            items=self.items.to(device),
        )

    def children(self, states: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """The tokens that may follow each node, and the nodes they lead to.

        states: int64 (...), nodes at `depth`, -1 for no node. Returns tokens int64 (..., W) in ascending order and next
        states int64 (..., W), both padded with -1; W is the number of children of the widest node in `states`.
        """
        starts, ends = node_range(states)
        if self.tables[depth] is None:
            places, bounds, is_child = self._runs(starts, ends, depth)
        else:
            places, bounds, is_child = _runs_in(self.tables[depth], starts, ends)
            if self.lengths is not None:  # leaves behind a node are in no run below it
                bounds = torch.minimum(bounds, ends[..., None])
        tokens = self.columns[depth][places].long() + self.token_ranges[depth][0]
        next_states = bounds[..., :-1] << _END_BITS | bounds[..., 1:]
        closed = ~is_child
        return tokens.masked_fill_(closed, -1), next_states.masked_fill_(closed, -1)

    def child(self, states: Tensor, depth: int, tokens: Tensor) -> Tensor:
        """The node one token leads to: states and tokens int64 (...) -> int64 (...), -1 where there is none."""
        found, next_states = self.children(states, depth)
        is_it = (found == tokens[..., None]) & (found >= 0)
        return torch.where(is_it, next_states, -1).amax(-1) if found.shape[-1] else torch.full_like(states, -1)

    def is_leaf(self, states: Tensor, depth: int) -> Tensor:
        """Whether each node at `depth` ends an item. states: int64 (...), -1 for no node -> bool (...), False there."""
        if self.lengths is None:
            return (states >= 0) & (depth == self.depth)
        starts, _ = node_range(states)
        return (self.lengths[starts] == depth) & (states >= 0)

    def lengths_at(self, ranks: Tensor) -> Tensor:
        """Tokens of the items at ranks int64 (...) -> int64 (...)."""
        return torch.full_like(ranks, self.depth) if self.lengths is None else self.lengths[ranks].long()

    def tokens_at(self, ranks: Tensor, depths: Tensor) -> Tensor:
        """One token of each item: ranks and depths int64 (...), depths below the items' lengths -> int64 (...)."""
        tokens = torch.empty_like(ranks)
        for depth in depths.unique().tolist():
            chosen = depths == depth
            places, table = ranks[chosen], self.tables[depth]
            if table is not None:
                places = torch.searchsorted(table, places, right=True) - 1
            tokens[chosen] = self.columns[depth][places].long() + self.token_ranges[depth][0]
        return tokens

    def _runs(self, starts: Tensor, ends: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        """The runs of equal tokens in each range, by reading it: see `_runs_in`."""
        column, last_rank = self.columns[depth], self.num_items - 1
        width = int((ends - starts).max()) if starts.numel() else 0
        ranks = starts[..., None] + torch.arange(width, device=starts.device)  # (..., R)
        begins = ranks < ends[..., None]
        ranks.clamp_(max=last_rank)
        if self.lengths is not None:  # a leaf's range holds items that end here
            begins &= self.lengths[ranks] > depth
        token = column[ranks]
        begins[..., 1:] &= token[..., 1:] != token[..., :-1]
        count = begins.sum(-1, keepdim=True)  # (..., 1)
        most = int(count.max()) if count.numel() else 0
        order = torch.arange(most + 1, device=starts.device)
        bounds = ends[..., None].repeat(*(1 for _ in starts.shape), most + 1)  # (..., W + 1)
        bounds[order < count] = ranks[begins]  # both in row-major order
        return bounds[..., :-1].clamp(max=last_rank), bounds, order[:-1] < count


def node_range(states: Tensor) -> tuple[Tensor, Tensor]:
    """The ranks starts .. ends - 1 of the items below each node; the empty range 0 .. -1 where a state is -1."""
    known = states.clamp(min=0)
    return known >> _END_BITS, known & 0xFFFFFFFF


def _runs_in(table: Tensor, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The runs of each range, from a table of all runs' starts.

    Returns where in the depth's column their tokens stand, int64 (..., W), their first ranks and, one place on, their ends,
    int64 (..., W + 1), and which there are, bool (..., W).
    """
    edges = torch.searchsorted(table, torch.stack([starts, ends]), out_int32=False)
    width = int((edges[1] - edges[0]).max()) if starts.numel() else 0
    places = edges[0][..., None] + torch.arange(width + 1, device=starts.device)  # (..., W + 1)
    is_run = places[..., :-1] < edges[1][..., None]
    places.clamp_(max=len(table) - 1)
    return places[..., :-1].clamp(max=len(table) - 2), table[places].long(), is_run


def _sorted_items(sequences: np.ndarray, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Items ordered by their sequences, then by item. sequences: int32 (N, L) -> int64 (N,).

    Neighbouring columns are packed into one 63-bit integer while they fit; the item itself joins the last one. Most
    catalogues need a single key then, and sorting plain integers is ten times faster than sorting rows.
    """
    num_items = len(sequences)
    item_bits = (num_items - 1).bit_length()
    keys, used = [np.zeros(num_items, np.int64)], 0
    columns = ((sequences[:, depth] - low, (high - low).bit_length()) for depth, (low, high) in enumerate(ranges))
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


def _refuse_prefixes(ends_inside: np.ndarray, items: np.ndarray) -> None:
    """Raises DataError if a rank's whole sequence begins that of the next rank; bool (N - 1,), True where it does."""
    if ends_inside.any():
        rank = int(np.argmax(ends_inside))
        _refuse_prefix(int(items[rank]), int(items[rank + 1]))


def _refuse_prefix(shorter: int, longer: int) -> NoReturn:
    raise DataError(
        f"the tokens of item {shorter} are the beginning of those of item {longer}, so its answer "
        "could never be told from an unfinished one. End every sequence with an end token."
    )


def _narrow(tokens: np.ndarray, low: int, high: int) -> Tensor:
    """tokens - low in the smallest integers that hold them; padding becomes 0. int32 (N,) -> (N,)."""
    dtype = np.uint8 if high - low < 2**8 else np.int16 if high - low < 2**15 else np.int32
    return torch.from_numpy(np.maximum(tokens - low, 0).astype(dtype))


def _int32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
