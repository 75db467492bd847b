"""Which items may come out: rules as item bitmaps over the trie's ranks, and each request's own items as short lists.

A bitmap (in stock, a category) is turned into prefix sums over ranks once, however many requests follow: N steps. What holds
for one request alone costs as many steps as it names items, as a sorted list of ranks: what it may not receive (seen,
excluded), or, where it brings candidates, those of them that are left by everything else. A node is allowed if its range of
ranks holds an item that the bitmap allows and the list does not exclude, or that the list of candidates holds: two
subtractions and two binary searches per node, at any size of catalogue.

Letters: B requests, N items, S listed items of a request.
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
    """Items that rules allow.

    before: int32 (R, N + 1), of each rule the allowed items at ranks below each. rows: int64 (B,), the rule of each request;
    None where R is 1 (one rule for all) or B (one each).
    """

    before: Tensor
    rows: Tensor | None = None

    @classmethod
    def of(cls, trie: TokenTrie, allowed: np.ndarray | Tensor) -> ItemBitmap:
        """allowed: bool (R, N), True for items that may come out. Raises RequestError for another shape or dtype."""
        allowed = torch.as_tensor(allowed, device=trie.items.device)
        if allowed.dtype != torch.bool or allowed.ndim != 2 or allowed.shape[1] != trie.num_items:
            raise RequestError(
                f"the allowed items must be bool (requests, {trie.num_items}), one column per item of the catalogue; "
                f"they are {allowed.dtype} {tuple(allowed.shape)}."
            )
        by_rank = allowed[:, trie.items]  # (R, N)
        return cls(torch.nn.functional.pad(by_rank.cumsum(1, dtype=torch.int32), (1, 0)))


class AllowedItems:
    """The items each of B requests may receive."""

    def __init__(
        self,
        trie: TokenTrie,
        num_requests: int,
        bitmap: ItemBitmap | None,
        excluded: Histories | None,
        candidates: Histories | None = None,
        has_candidates: np.ndarray | None = None,
    ) -> None:
        """bitmap: what a rule allows (None: everything); excluded: B lists of items a request may not receive (None: none);
        candidates: B lists of items, of which alone a request may receive some (None: all items; an empty list: nothing);
        has_candidates: bool (B,), the requests for which `candidates` count (None: all).

        Lists are in any order, and may name an item twice. Raises RequestError if the number of rows is not that of the requests.
        """
        rows = None if bitmap is None else len(bitmap.before if bitmap.rows is None else bitmap.rows)
        if rows not in (None, 1, num_requests):
            raise RequestError(f"expected a row of allowed items for each of {num_requests} prompts, got {rows}.")
        for what, lists in (("excluded items", excluded), ("candidates", candidates)):
            if lists is not None and len(lists) != num_requests:
                raise RequestError(f"expected lists of {what} for each of {num_requests} prompts, got {len(lists)}.")
        self._trie = trie
        self._before = self._first = self._excluded = self._candidates = self._is_listed = None
        if bitmap is not None:
            shared = bitmap.rows is None
            self._before = bitmap.before.expand(num_requests, -1) if shared else bitmap.before
            self._first = None if shared else bitmap.rows[:, None] * bitmap.before.shape[1]  # (B, 1)
        if excluded is not None:
            self._excluded = self._ranks(excluded)  # (B, S)
        if candidates is not None:  # their list says everything
            self._candidates = self._ranks(candidates)  # (B, S)
            if has_candidates is None:
                self._before = self._excluded = None
            else:
                self._is_listed = torch.as_tensor(has_candidates, device=trie.items.device)[:, None]

    def count(self, starts: Tensor, ends: Tensor) -> Tensor:
        """Allowed items at the ranks starts .. ends - 1: int64 (B, M) each -> int64 (B, M)."""
        listed = None if self._candidates is None else _count(self._candidates, starts, ends)
        if listed is not None and self._is_listed is None:
            return listed
        found = ends - starts if self._before is None else (self._below(ends) - self._below(starts)).long()
        if self._excluded is not None:
            found = found - _count(self._excluded, starts, ends)
        return found if listed is None else torch.where(self._is_listed, listed, found)

    def is_allowed(self, states: Tensor) -> Tensor:
        """states: int64 (B, ...), nodes, -1 for none -> bool (B, ...), False where no node."""
        starts, ends = node_range(states.flatten(1))
        return (self.count(starts, ends) > 0).view(states.shape)

    def _below(self, ranks: Tensor) -> Tensor:
        """Items that the bitmap allows below each rank: int64 (B, M) -> int32 (B, M)."""
        return self._before.gather(1, ranks) if self._first is None else self._before.take(self._first + ranks)

    def _ranks(self, lists: Histories) -> Tensor:
        """Ranks of each request's listed items, ascending and each once, padded with N: int64 (B, S).

        Left out are items that the bitmap or the excluded items kept so far say may not come out.
        """
        trie, lengths = self._trie, lists.lengths
        num_items = trie.num_items
        is_item = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (B, S)
        items = np.zeros(is_item.shape, dtype=np.int64)
        items[is_item] = lists.items
        device = trie.items.device
        ranks = trie.ranks[torch.from_numpy(items).to(device)].long()
        ranks = ranks.masked_fill_(~torch.from_numpy(is_item).to(device), num_items).sort(dim=1).values
        is_out = torch.zeros_like(ranks, dtype=torch.bool)
        is_out[:, 1:] = ranks[:, 1:] == ranks[:, :-1]
        if self._before is not None:
            known = ranks.clamp(max=num_items - 1)
            is_out |= self._below(known + 1) == self._below(known)
        if self._excluded is not None:
            is_out |= _count(self._excluded, ranks, ranks + 1) > 0
        return ranks.masked_fill_(is_out, num_items).sort(dim=1).values.contiguous()


def _count(ranks: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """How many of the ascending ranks (B, S) lie in starts .. ends - 1: int64 (B, M) each -> int64 (B, M)."""
    return torch.searchsorted(ranks, ends) - torch.searchsorted(ranks, starts)
