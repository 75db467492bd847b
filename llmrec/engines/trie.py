"""The catalogue as a prefix tree over the items' token sequences, in a few flat columns.

Sorting items by their sequences (rank = position in that order) puts the items below every node side by side, so a node *is*
a range of ranks, and nothing has to be stored for it. The state of a node packs that range: `start << 32 | end`. Its
children are the runs of equal tokens of the next column inside the range. Where nodes are few and wide (the root, the
first levels) all of them are kept in a table; below that a range is short, and its runs are found by reading it.

A million items of 4 x 256 codes take 7 MiB and one sort of packed integers. A step over few beams takes as long as its operations
take to start, so they are few.

Letters: B requests, K beams, N items, L depth (longest sequence), W children of the widest node asked for, M nodes of a table.
"""

from __future__ import annotations

from collections.abc import Callable
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
# A depth whose nodes are at most this share of the items gets a table of them; other nodes hold few items each.
_TABLE_SHARE = 8
_SMALLEST_TABLE = 1024


@dataclass(frozen=True, eq=False)
class NodeTable:
    """All nodes of a depth in order. starts: int32 (M,), their first ranks; states: int64 (M,)."""

    starts: Tensor
    states: Tensor

    def to(self, device: str | torch.device) -> NodeTable:
        """The same table with its tensors on `device`."""
        return NodeTable(self.starts.to(device), self.states.to(device))


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """A prefix tree whose leaves are items; no sequence is the beginning of another, equal sequences share a leaf.

    tables: for each depth the M nodes one depth below, or None where ranges are read.
    columns: L tensors, the next tokens less the lowest one of that depth, in the smallest integers that hold them: (M,), that
    into each node of the table, or (N,), that of the item at each rank, 0 after its end.
    token_ranges: the lowest and highest token of each depth.
    lengths: int16 (N,), the length of the sequence at each rank; None where all have length L.
    items: int32 (N,), the item at each rank; items that share a leaf stand in ascending order.
    leaf_depths: the depths (tokens below the root) at which leaves occur, ascending; the last one is L.
    max_leaf_items: items on the fullest leaf. num_nodes: of the whole tree, the root included.
    """

    columns: tuple[Tensor, ...]
    token_ranges: tuple[tuple[int, int], ...]
    tables: tuple[NodeTable | None, ...]
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
        # column by column: along axis 0 takes five times as long
        ranges = [(int(column.min()), int(column.max())) for column in sequences.T]
        items, ordered_tokens = _sorted_items(sequences, ranges)  # (N,)
        is_even = int(lengths.min()) == depth
        ordered_lengths = None if is_even else lengths[items].astype(np.int16)

        columns, tables, token_ranges, num_nodes = [], [], [], 1
        is_new = np.zeros(num_items, dtype=bool)  # whether a rank's first tokens differ from those at the rank before
        is_new[0] = True
        for level, (low, high) in enumerate(ranges):
            ordered = ordered_tokens(level)  # (N,)
            differs = ordered[1:] != ordered[:-1]
            reaches = None if is_even else ordered >= 0
            if reaches is not None:
                _refuse_prefixes(differs & ~is_new[1:] & ~reaches[:-1], items)
                low = int(ordered[reaches].min())
            is_new[1:] |= differs
            starts, ends = _node_edges(is_new, reaches)
            num_nodes += len(starts)
            has_table = len(starts) <= max(_SMALLEST_TABLE, num_items // _TABLE_SHARE)
            tables.append(_table(starts, ends) if has_table else None)
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
        """The rank of each item, int32 (N,): made when a rule first asks for it, 4 bytes per item more."""
        ranks = torch.empty_like(self.items)
        ranks[self.items.long()] = torch.arange(self.num_items, dtype=torch.int32, device=ranks.device)
        return ranks

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors but `ranks`."""
        tables = [tensor for table in self.tables if table is not None for tensor in (table.starts, table.states)]
        held = [*self.columns, self.items, self.lengths, *tables]
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
        table = self.tables[depth]
        if table is None:
            positions, next_states, is_closed = self._runs(states, depth)
        else:
            positions, is_closed = _positions_in(table, states)
            next_states = table.states.take(positions)
        tokens = self.columns[depth].take(positions).long().add_(self.token_ranges[depth][0])
        return tokens.masked_fill_(is_closed, -1), next_states.masked_fill_(is_closed, -1)

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
            positions, table = ranks[chosen], self.tables[depth]
            if table is not None:
                positions = torch.searchsorted(table.starts, positions, right=True) - 1
            tokens[chosen] = self.columns[depth][positions].long() + self.token_ranges[depth][0]
        return tokens

    def _runs(self, states: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        """The runs of equal tokens in each range, by reading it: their first ranks and their states, int64 (..., W), and which there
        are none of, bool (..., W)."""
        column, last_rank = self.columns[depth], self.num_items - 1
        ends, starts = _halves(states).split(1, dim=-1)  # (..., 1)
        width = int((ends - starts).max()) if states.numel() else 0
        ranks = starts + torch.arange(width, device=states.device)  # int64 (..., R)
        begins = ranks < ends
        ranks.clamp_(0, last_rank)
        if self.lengths is not None:  # a leaf's range holds items that end here
            begins &= self.lengths[ranks] > depth
        if width > 1:
            token = column.take(ranks)
            is_other = token.narrow(-1, 1, width - 1) != token.narrow(-1, 0, width - 1)
            begins.narrow(-1, 1, width - 1).logical_and_(is_other)
        position = begins.cumsum(-1)  # (..., R), of each run's first item: 1, 2, ...
        most = int(position.max()) if position.numel() else 0
        edges = ends.long().expand(*states.shape, most + 2).clone()
        edges.scatter_(-1, position.mul_(begins), ranks)  # what is no run's first item goes to position 0
        first, after = edges.narrow(-1, 1, most), edges.narrow(-1, 2, most)
        return first.clamp(0, last_rank), _state(first, after), first >= ends


def node_range(states: Tensor) -> tuple[Tensor, Tensor]:
    """The ranks starts .. ends - 1 of the items below each node; the empty range 0 .. -1 where a state is -1."""
    known = states.clamp(min=0)
    return known >> _END_BITS, known & 0xFFFFFFFF


def _state(starts: Tensor, ends: Tensor) -> Tensor:
    """The nodes of ranges, int64 each."""
    return (starts << _END_BITS).bitwise_or_(ends)


def _halves(states: Tensor) -> Tensor:
    """End and start of each node, as CPUs lay the halves of a number in memory: int64 (...) -> int32 (..., 2), a view; -1 and
    -1 where a state is -1."""
    return states[..., None].view(torch.int32)


def _positions_in(table: NodeTable, states: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the table the children of each state stand, int64 (..., W), and which are none, bool (..., W)."""
    after, first = torch.searchsorted(table.starts, _halves(states)).split(1, dim=-1)  # (..., 1)
    width = int((after - first).max()) if states.numel() else 0
    positions = first + torch.arange(width, device=states.device)  # (..., W)
    is_closed = positions >= after
    return positions.masked_fill_(is_closed, 0), is_closed


def _node_edges(is_new: np.ndarray, reaches: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The first rank of each node and the one after it, int64 (M,) each.

    is_new: bool (N,), whether a rank's tokens down to here differ from those before; reaches: bool (N,), whether they go that far, None
    where all do.
    """
    edges = np.append(np.flatnonzero(is_new), len(is_new))
    starts, ends = edges[:-1], edges[1:]
    if reaches is None:
        return starts, ends
    is_node = reaches[starts]
    return starts[is_node], ends[is_node]


def _table(starts: np.ndarray, ends: np.ndarray) -> NodeTable:
    return NodeTable(_int32(starts), _state(torch.from_numpy(starts), torch.from_numpy(ends)))


def _sorted_items(
    sequences: np.ndarray, ranges: list[tuple[int, int]]
) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """Items ordered by their sequences, then by item, and what gives the tokens of a depth in that order.

    sequences: int32 (N, L) -> int64 (N,), and depth -> int32 (N,).

    Neighbouring columns are packed into one 63-bit integer while they fit; the item itself joins the last one. Most
    catalogues need a single key then: sorting plain integers is ten times faster than sorting rows, and the sorted tokens stand
    in the key, where reading them is ten times faster than fetching them item by item.
    """
    num_items = len(sequences)
    fields = [(sequences[:, depth], low, (high - low).bit_length()) for depth, (low, high) in enumerate(ranges)]
    keys, used = [np.zeros(num_items, np.int64)], 0
    fields.append((np.arange(num_items), 0, (num_items - 1).bit_length()))
    for column, low, bits in fields:
        if used + bits > _KEY_BITS:
            keys.append(np.zeros(num_items, np.int64))
            used = 0
        keys[-1] <<= bits
        keys[-1] |= column if low == 0 else column - low
        used += bits
    if len(keys) > 1:
        items = np.lexsort(keys[::-1])
        return items, lambda depth: sequences[:, depth][items]
    key = keys[0]
    key.sort()
    widths = [bits for _, _, bits in fields]
    after = [sum(widths[depth + 1 :]) for depth in range(len(fields))]  # bits of the key that follow each column's

    def ordered_tokens(depth: int) -> np.ndarray:
        _, low, bits = fields[depth]
        return (key >> after[depth] & (1 << bits) - 1).astype(np.int32) + np.int32(low)

    return key & ((1 << widths[-1]) - 1), ordered_tokens


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
