"""Which items may come out: rules as item bitmaps over the trie's ranks, and each request's own closed items as short lists.

A bitmap (in stock, a category, a candidate list) is turned into prefix sums over ranks once, however many requests follow.
What one request may not receive (its seen items) is a sorted list of ranks. A node is open if its range of ranks holds an
item that the bitmap allows and the list does not close: two subtractions and two binary searches a node, at any size of
catalogue.

Letters: B requests, N items, S closed items of a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.data.interactions import Histories
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.errors import RequestError


@dataclass(frozen=True, eq=False)
class ItemBitmap:
    """Items that a rule allows. before: int32 (R, N + 1), allowed items at ranks below each; R is 1 (one rule for all) or B."""

    before: Tensor

    @classmethod
    def of(cls, trie: TokenTrie, allowed: np.ndarray | Tensor) -> ItemBitmap:
        """allowed: bool (R, N), True for items that may come out. Raises RequestError for another shape or dtype."""
        allowed = torch.as_tensor(allowed, device=trie.items.device)
        if allowed.dtype != torch.bool or allowed.ndim != 2 or allowed.shape[1] != trie.num_items:
            raise RequestError(
                f"the allowed items must be bool (requests, {trie.num_items}), one column an item of the catalogue; "
                f"they are {allowed.dtype} {tuple(allowed.shape)}."
            )
        by_rank = allowed[:, trie.items]  # (R, N)
        return cls(torch.nn.functional.pad(by_rank.cumsum(1, dtype=torch.int32), (1, 0)))


class OpenItems:
    """The items each of B requests may receive."""

    def __init__(self, trie: TokenTrie, num_requests: int, bitmap: ItemBitmap | None, closed: Histories | None) -> None:
        """bitmap: what a rule allows (None: everything); closed: B lists of items a request may not receive (None: none).

        Raises RequestError if the number of rows is not that of the requests.
        """
        rows = None if bitmap is None else len(bitmap.before)
        if rows not in (None, 1, num_requests):
            raise RequestError(f"expected a row of allowed items for each of {num_requests} prompts, got {rows}.")
        if closed is not None and len(closed) != num_requests:
            raise RequestError(f"expected lists of closed items for each of {num_requests} prompts, got {len(closed)}.")
        self._trie = trie
        self._before = None if bitmap is None else bitmap.before.expand(num_requests, -1)
        self._closed = None if closed is None else self._closed_ranks(closed)  # (B, S)

    def count(self, starts: Tensor, ends: Tensor) -> Tensor:
        """Open items at the ranks starts .. ends - 1: int64 (B, M) each -> int64 (B, M)."""
        if self._before is None:
            found = ends - starts
        else:
            found = (self._before.gather(1, ends) - self._before.gather(1, starts)).long()
        if self._closed is not None:
            found = found - (torch.searchsorted(self._closed, ends) - torch.searchsorted(self._closed, starts))
        return found

    def is_open(self, states: Tensor) -> Tensor:
        """states: int64 (B, ...), nodes, -1 for none -> bool (B, ...), False where no node."""
        starts, ends = node_range(states.flatten(1))
        return (self.count(starts, ends) > 0).view(states.shape)

    def _closed_ranks(self, closed: Histories) -> Tensor:
        """Ranks of each request's closed items that the bitmap allows, ascending and each once, padded with N: int64 (B, S)."""
        device, num_items = self._trie.items.device, self._trie.num_items
        width = int(closed.lengths.max(initial=0))
        is_item = torch.arange(width) < torch.from_numpy(closed.lengths)[:, None]  # (B, S)
        ranks = torch.full(is_item.shape, num_items, dtype=torch.int64, device=device)
        items = torch.from_numpy(closed.items.astype(np.int64)).to(device)
        ranks[is_item.to(device)] = self._trie.ranks[items].long()
        ranks = ranks.sort(dim=1).values
        ranks[:, 1:].masked_fill_(ranks[:, 1:] == ranks[:, :-1], num_items)
        if self._before is not None:
            known = ranks.clamp(max=num_items - 1)
            ranks.masked_fill_(self._before.gather(1, known + 1) == self._before.gather(1, known), num_items)
        return ranks.sort(dim=1).values.contiguous()
