"""What the model has to read of the beams: each beam's last token once, and, when few choices are left, everything to the end.

A pass over a few tokens costs nearly what a pass over many does: the model's weights have to come from memory each time.
So once the beams of a request have little more than one item each below them, the rest of all those items is read in a
single pass, and the depths that follow find their hidden states there. The scores are the same; at most half as many rows
more are computed. Titles gain most: after a few words there is one item left, and many words to go. The scope `vocabulary` compares
with the whole vocabulary, whose matrix is read from memory once for all of these rows as well, and for the prompt's last token
together with the first beams: its normaliser shifts all scores of a request alike, so it can wait (`BeamReader.owed`).

Letters: B requests, K beams, G beams read, C items read ahead, E rows read ahead, S nodes read so far, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.beams import is_uncertain
from llmrec.engines.torch.likelihood import full_normaliser
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.engines.trie import TokenTrie, node_range

# Items below the beams, as a multiple of the beams, up to which all of them are read ahead; and rows this may take.
_ITEMS_A_BEAM = 1.5
_ROWS_AHEAD = 1024


@dataclass
class _Ahead:
    """The items below the beams, and the rows that read each of them from `depth` on to its last token but one.

    ranks: int64 (B, C), the items' ranks, -1 where none. owners: int64 (B, C), the beam each is below. first: int64 (B, C),
    the row of each item's token at `depth`; those of its later tokens follow. row_items, row_depths: int64 (B, E), the item
    and the token of each row; rows a request has no use for repeat a token. hidden: (B, E, D), once read; normaliser: float32
    (B, E, 1), likewise, under the scope `vocabulary`.
    """

    depth: int
    ranks: Tensor
    owners: Tensor
    first: Tensor
    row_items: Tensor
    row_depths: Tensor
    hidden: Tensor | None = None
    normaliser: Tensor | None = None


@dataclass
class BeamStates:
    """What was read of M beams. rows: int64 (M,), their positions in [0, B * K). hidden: (M, D), the state after each.
    normaliser: float32 (M, 1) under the scope `vocabulary`, see `full_normaliser`; zeros after the prompt, where it is owed."""

    rows: Tensor
    hidden: Tensor
    normaliser: Tensor | None = None


class BeamReader:
    """Reads beams on a prompt tree."""

    def __init__(self, backbone: Backbone, tree: PromptTree, trie: TokenTrie, scope: SoftmaxScope) -> None:
        """scope: under `trie` a beam with a single item below it is certain of every token and is not read."""
        self._backbone, self._tree, self._trie, self._scope = backbone, tree, trie, scope
        first = tree.last_hidden
        self._ancestors = torch.zeros(len(first), 1, 0, dtype=torch.bool, device=first.device)  # (B, K, S)
        self._ahead: _Ahead | None = None
        self._root_normaliser: Tensor | None = None

    @property
    def owed(self) -> Tensor:
        """What the scores of a request are still too high by: float32 (B, 1), of the scope `vocabulary`."""
        if self._root_normaliser is None:  # nothing was read after the prompt
            self._normaliser(self._tree.last_hidden[:0])
        return self._root_normaliser

    def _normaliser(self, hidden: Tensor) -> Tensor | None:
        """Of hidden (M, D), (M, 1), under the scope `vocabulary`, and of the prompts together with the first of them."""
        if self._scope != "vocabulary":
            return None
        if self._root_normaliser is not None:
            return full_normaliser(self._backbone, hidden)
        both = full_normaliser(self._backbone, torch.cat([hidden, self._tree.last_hidden]))
        self._root_normaliser = both[len(hidden) :]
        return both[: len(hidden)]

    def read(self, states: Tensor, tokens: Tensor, parents: Tensor, is_alive: Tensor, depth: int) -> BeamStates:
        """Hidden states after the beams whose next token is not certain yet.

        states, tokens, parents: int64 (B, K), each beam's node, last token and position of its parent among the beams before.
        is_alive: bool (B, K).
        """
        num_requests, num_beams = states.shape
        row = torch.arange(num_requests * num_beams, device=states.device).view(states.shape)
        if depth == 0:
            hidden = self._tree.last_hidden
            owed = hidden.new_zeros(len(hidden), 1, dtype=torch.float32) if self._scope == "vocabulary" else None
            return BeamStates(row[:, 0], hidden, owed)
        starts, ends = node_range(states)
        is_needed = is_uncertain(states, is_alive, self._scope)
        if self._ahead is not None:
            return self._found_ahead(row, is_needed, starts, depth)
        self._ancestors = self._ancestors.gather(1, parents[..., None].expand(-1, -1, self._ancestors.shape[2]))
        num_read = int(is_needed.sum(1).max())
        if num_read == 0:
            return BeamStates(row[is_needed], self._tree.last_hidden[:0])
        positions = (~is_needed).byte().argsort(dim=1, stable=True)[:, :num_read]  # (B, G)
        is_read = is_needed.gather(1, positions)
        counts = (ends - starts).masked_fill(~is_needed, 0).gather(1, positions)  # (B, G), items below each
        hidden = self._grow(
            tokens.gather(1, positions), positions, starts.gather(1, positions), counts, num_beams, depth
        )
        hidden, positions = hidden[is_read], row.gather(1, positions)[is_read]  # (M, D), (M,)
        if self._ahead is None or self._scope != "vocabulary":
            return BeamStates(positions, hidden, self._normaliser(hidden))
        later = self._ahead.hidden
        normaliser = self._normaliser(torch.cat([hidden, later.flatten(0, 1)]))
        self._ahead.normaliser = normaliser[len(hidden) :].unflatten(0, later.shape[:2])
        return BeamStates(positions, hidden, normaliser[: len(hidden)])

    def _grow(
        self, tokens: Tensor, positions: Tensor, starts: Tensor, counts: Tensor, num_beams: int, depth: int
    ) -> Tensor:
        """Reads one token per beam, (B, G), and perhaps all that follows; the hidden states after the beams, (B, G, D)."""
        num_requests, num_read = positions.shape
        itself = torch.zeros(num_requests, num_beams, num_read, dtype=torch.bool, device=positions.device)
        itself.scatter_(1, positions[:, None], True)
        self._ancestors = torch.cat([self._ancestors, itself], dim=2)
        ancestors = self._ancestors.gather(
            1, positions[..., None].expand(-1, -1, self._ancestors.shape[2])
        )  # (B, G, S)
        tokens = tokens.clamp(min=0)
        depths = torch.full_like(tokens, depth - 1)
        ahead = self._items_ahead(starts, counts, depth)
        if ahead is None:
            return self._tree.grow(tokens, depths, ancestors)
        num_rows = ahead.row_items.shape[1]
        more = self._trie.tokens_at(ahead.ranks.clamp(min=0).gather(1, ahead.row_items), ahead.row_depths)  # (B, E)
        owner = ahead.owners.gather(1, ahead.row_items)
        above = ancestors.gather(1, owner[..., None].expand(-1, -1, ancestors.shape[2]))  # (B, E, S)
        before = ahead.row_items[:, :, None] == ahead.row_items[:, None]
        before &= torch.ones(num_rows, num_rows, dtype=torch.bool, device=before.device).tril()  # (B, E, E)
        seen = torch.cat([torch.nn.functional.pad(ancestors, (0, num_rows)), torch.cat([above, before], dim=2)], dim=1)
        hidden = self._tree.grow(
            torch.cat([tokens, more], dim=1), torch.cat([depths, ahead.row_depths], dim=1), seen
        )  # (B, G + E, D)
        ahead.hidden = hidden[:, num_read:]
        self._ahead = ahead
        return hidden[:, :num_read]

    def _items_ahead(self, starts: Tensor, counts: Tensor, depth: int) -> _Ahead | None:
        """The items below the beams, if they are few enough to be read to their ends now; None to go on a depth at a time.

        starts, counts: int64 (B, G), the ranks below each beam.
        """
        if self._scope == "trie" or depth >= self._trie.depth - 1:
            return None
        num_items, num_beams = int(counts.sum(1).max()), int((counts > 0).sum(1).max())
        if num_items > _ITEMS_A_BEAM * num_beams:
            return None
        ends = counts.cumsum(1)  # (B, G)
        position = torch.arange(num_items, device=starts.device).repeat(len(starts), 1)  # (B, C)
        owners = torch.searchsorted(ends, position, right=True)
        is_item = owners < counts.shape[1]
        owners = owners.clamp(max=counts.shape[1] - 1)
        ranks = torch.where(is_item, starts.gather(1, owners) + position - (ends - counts).gather(1, owners), 0)
        rows = torch.where(is_item, self._trie.lengths_at(ranks) - 1 - depth, 0).clamp(min=0)  # (B, C), tokens to read
        last = rows.cumsum(1)
        num_rows = int(last[:, -1].max())
        if not 0 < num_rows <= _ROWS_AHEAD:
            return None
        row = torch.arange(num_rows, device=starts.device).repeat(len(starts), 1)
        row_items = torch.searchsorted(last, row, right=True).clamp(max=num_items - 1)  # (B, E)
        row_depths = depth + row - (last - rows).gather(1, row_items)
        longest = (self._trie.lengths_at(ranks) - 1).gather(1, row_items).clamp(min=depth)
        return _Ahead(
            depth, ranks.where(is_item, -1), owners, last - rows, row_items, torch.minimum(row_depths, longest)
        )

    def _found_ahead(self, row: Tensor, is_needed: Tensor, starts: Tensor, depth: int) -> BeamStates:
        """What was read ahead of the beams that need it. row, is_needed, starts: (B, K), a beam's position, whether it does, and the
        rank where its items begin."""
        ahead = self._ahead
        item = (ahead.ranks[:, None] == starts[..., None]).byte().argmax(2)  # (B, K)
        position = ahead.first.gather(1, item) + depth - 1 - ahead.depth
        position = position.clamp(max=ahead.hidden.shape[1] - 1)
        request = torch.arange(len(position), device=position.device)[:, None].expand_as(position)[is_needed]  # (M,)
        position = position[is_needed]
        normaliser = None if ahead.normaliser is None else ahead.normaliser[request, position]
        return BeamStates(row[is_needed], ahead.hidden[request, position], normaliser)
