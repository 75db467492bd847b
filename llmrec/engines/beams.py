"""Beams of a catalogue's trie, as every engine grows them: what is a candidate, what goes on, what has finished. Every beam is an item.

A beam is a node of the trie with the sum of its tokens' log-probabilities. At each depth all children of all beams that
lead to an allowed item are candidates. As in transformers' beam search (length_penalty=0):

- the best K candidates that are no leaf go on;
- a leaf among the best K candidates is finished: it leaves the beams, keeps its score and competes with the other finished
ones for the K ranks. Later leaves must beat it; it never blocks a beam that is still growing;
- a beam that scores below K finished ones is given up: scores only fall, so nothing below it could come back.

With K at least the number of leaves this is brute force. With fewer, k different items come out whenever k are allowed,
because every candidate leads to an allowed item and K >= k.

Under the scope `trie` a beam with a single item below it is resolved: its remaining tokens are certain, so it keeps its
score and the model reads no more of it.

Letters: B requests, K beams, W children, N items, C items of a leaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmrec.backbones.causal_lm import SoftmaxScope
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.errors import ModelError, RequestError

NEVER = float("-inf")


@dataclass
class Beams:
    """What grows (or has finished), best first; scores of -inf are empty positions.

    states: int64 (B, K), trie nodes. tokens: int64 (B, K), the last token of each. scores: float32 (B, K).
    parents: int64 (B, K), the position of each beam's parent among the beams before.
    """

    states: Tensor
    tokens: Tensor
    scores: Tensor
    parents: Tensor

    def best(self, scores: Tensor, num: int) -> Beams:
        """The `num` best by `scores` (B, K), which become the scores."""
        scores, position = scores.topk(min(num, scores.shape[1]), dim=1)
        return Beams(
            self.states.gather(1, position), self.tokens.gather(1, position), scores, self.parents.gather(1, position)
        )


Trace = list[tuple[Beams, Beams]]  # what a search saw, a pair a depth: see `grow_beams`


class ChildScores(Protocol):
    """What an engine says of the children of beams."""

    def __call__(self, beams: Beams, tokens: Tensor, is_allowed: Tensor, depth: int) -> Tensor:
        """The log-probabilities of tokens: float32 (B, K, W), 0 after a beam that is certain, any number where not allowed or the
        beam is empty.

        tokens: int64 (B, K, W), each beam's children, -1 for none. is_allowed: bool (B, K, W), those that lead to an allowed item.
        """


def beam_width(k: int, num_beams: int) -> int:
    """K: never fewer beams than items are asked for. Raises RequestError for less than 1 of either."""
    if k < 1 or num_beams < 1:
        raise RequestError(f"expected k and num_beams of at least 1, got {k} and {num_beams}.")
    return max(k, num_beams)


def grow_beams(
    trie: TokenTrie,
    num_requests: int,
    width: int,
    allowed_items: AllowedItems | None,
    child_scores: ChildScores,
    trace: Trace | None = None,
) -> Beams:
    """The finished leaves of each request, best first: `width` at most. Raises ModelError where a score is NaN.

    trace: is given, of every depth, the best `width` candidates and the beams that go on.
    """
    beams = _root(trie, num_requests)
    finished = Beams(*(values[:, :0] for values in vars(beams).values()))
    for depth in range(trie.depth):
        tokens, states = trie.children(beams.states, depth)  # (B, K, W) each
        is_allowed = states >= 0 if allowed_items is None else allowed_items.is_allowed(states)
        log_probs = child_scores(beams, tokens, is_allowed, depth)
        check_scores(log_probs)
        scores = (beams.scores[..., None] + log_probs).masked_fill_(~is_allowed, NEVER)
        parents = torch.arange(states.shape[1], device=states.device)[:, None].expand_as(states)
        candidates = Beams(states.flatten(1), tokens.flatten(1), scores.flatten(1), parents.flatten(1))
        beams, finished = _select(trie, candidates, finished, width, depth + 1)
        if trace is not None:
            trace.append((candidates.best(candidates.scores, width), beams))
        if beams.states.shape[1] == 0:
            break
    return finished


def check_scores(scores: Tensor) -> None:
    """Raises ModelError where one is NaN."""
    if scores.isnan().any():
        raise ModelError("the model gave NaN as a score: its weights hold NaN or infinity; train it again.")


def is_uncertain(states: Tensor, is_alive: Tensor, scope: SoftmaxScope) -> Tensor:
    """The nodes after which the model has to be read: states int64 (...), is_alive bool (...) -> bool (...)."""
    starts, ends = node_range(states)
    return is_alive & (ends - starts > 1) if scope == "trie" else is_alive


def _select(trie: TokenTrie, candidates: Beams, finished: Beams, width: int, depth: int) -> tuple[Beams, Beams]:
    """The beams that go on below `depth` and the finished ones, `width` of each at most."""
    best = candidates.best(candidates.scores, width)
    if depth in trie.leaf_depths:
        leaves = best.scores.masked_fill(~trie.is_leaf(best.states, depth), NEVER)
        both = [torch.cat(pair, dim=1) for pair in zip(vars(finished).values(), vars(best).values(), strict=True)]
        scores = torch.cat([finished.scores, leaves], dim=1)
        finished = Beams(*both).best(scores, width)
        growing = candidates.scores.masked_fill(trie.is_leaf(candidates.states, depth), NEVER)
        best = candidates.best(growing, width)
    if finished.scores.shape[1] == width:
        best.scores.masked_fill_(best.scores < finished.scores[:, -1:], NEVER)
    num_alive = int((best.scores > NEVER).sum(1).max())  # best first, so the empty positions come last
    best = best.best(best.scores, num_alive)
    return best, finished


def best_items(trie: TokenTrie, allowed_items: AllowedItems | None, finished: Beams, k: int) -> tuple[Tensor, Tensor]:
    """The first k allowed items on the finished leaves, best leaf first: int32 (B, k) and float32 (B, k) on the CPU, padded with -1 and
    -inf where fewer can be reached. Items on one leaf (equal titles) have the same score and stand in catalogue order."""
    starts, ends = node_range(finished.states.masked_fill(finished.scores == NEVER, -1))
    ranks = starts[..., None] + torch.arange(trie.max_leaf_items, device=starts.device)  # (B, K, C)
    is_item = (ranks < ends[..., None]).flatten(1)
    ranks = ranks.flatten(1).clamp(max=trie.num_items - 1)
    if allowed_items is not None:
        is_item &= allowed_items.count(ranks, ranks + 1) > 0
    scores = finished.scores.repeat_interleave(trie.max_leaf_items, dim=1).masked_fill(~is_item, NEVER)
    items = trie.items[ranks].masked_fill(~is_item, -1)
    first = (~is_item).byte().argsort(dim=1, stable=True)[:, :k]
    missing = (0, k - first.shape[1])
    items = torch.nn.functional.pad(items.gather(1, first), missing, value=-1)
    scores = torch.nn.functional.pad(scores.gather(1, first), missing, value=NEVER)
    return items.cpu(), scores.float().cpu()


def _root(trie: TokenTrie, num_requests: int) -> Beams:
    """The node all items are below, with a score of 0, for each request."""
    states = torch.full((num_requests, 1), trie.root, device=trie.items.device)
    nothing = torch.zeros_like(states)
    return Beams(states, nothing, nothing.float(), nothing)
