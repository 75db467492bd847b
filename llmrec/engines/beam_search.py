"""Beam search over the catalogue's trie on the Hugging Face model itself: every beam is an item.

A beam is a node of the trie with the sum of its tokens' log-probabilities. At each depth all children of all beams that
lead to an allowed item are candidates. As in transformers' beam search (length_penalty=0):

- the best K candidates that are no leaf go on;
- a leaf among the best K candidates is finished: it leaves the beams, keeps its score and competes with the other finished
  ones for K places. Later leaves must beat it; it never blocks a beam that is still growing;
- a beam that scores below K finished ones is given up: scores only fall, so nothing below it could come back.

With K at least the number of leaves this is brute force. With fewer, k different items come out whenever k are allowed,
because every candidate leads to an allowed item and K >= k.

Letters: B requests, K beams, W children, N items, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, ScoreRule
from llmrec.engines.likelihood import check_rule, token_log_probs
from llmrec.engines.prompt_tree import PromptTree
from llmrec.engines.trie import ROOT, OpenLeaves, TokenTrie
from llmrec.errors import RequestError

_NEVER = float("-inf")


@dataclass
class _Beams:
    """What grows (or has finished), best first; scores of -inf are empty places.

    states: int64 (B, K), trie nodes. tokens: int64 (B, K), the last token of each. scores: float32 (B, K).
    parents: int64 (B, K), the place of each beam's parent among the beams before.
    """

    states: Tensor
    tokens: Tensor
    scores: Tensor
    parents: Tensor

    def best(self, scores: Tensor, num: int) -> _Beams:
        """The `num` best by `scores` (B, K), which become the scores."""
        scores, place = scores.topk(min(num, scores.shape[1]), dim=1)
        return _Beams(self.states.gather(1, place), self.tokens.gather(1, place), scores, self.parents.gather(1, place))


@torch.no_grad()
def beam_search(
    backbone: Backbone,
    trie: TokenTrie,
    prompts: Sequence[np.ndarray],
    k: int,
    *,
    num_beams: int = 20,
    allowed: np.ndarray | Tensor | None = None,
    score_rule: ScoreRule = "full",
) -> tuple[Tensor, Tensor]:
    """The k best items for each prompt.

    prompts: B arrays of token ids, each ending where the answer begins. k: items a request. num_beams: K; never less than
    k are kept. allowed: bool (B, N), the items that may come out; None for all. score_rule: see `likelihood`.
    Memory: the cache holds B * (T + K * (L - 1)) positions, T being the longest prompt and L the longest answer.

    Returns, on the CPU and best first, items int32 (B, k), padded with -1 where fewer can be reached, and their scores
    float32 (B, k), log-probabilities of whole answers, padded with -inf. Items on one leaf (equal titles) have the same
    score and stand in catalogue order. Raises ModelError for a backbone or rule that cannot do this, RequestError for
    empty or too long prompts, a mask of another shape, or k < 1.
    """
    if k < 1 or num_beams < 1:
        raise RequestError(f"expected k and num_beams of at least 1, got {k} and {num_beams}.")
    check_rule(backbone, score_rule, trie.token_ranges)
    trie = trie.to(backbone.device)
    if allowed is not None and len(allowed) != len(prompts):
        raise RequestError(f"expected a row of allowed items for each of {len(prompts)} prompts, got {len(allowed)}.")
    open_leaves = None if allowed is None else OpenLeaves(trie, allowed)
    width = max(k, num_beams)
    tree = PromptTree(backbone, prompts, trie.depth)
    hidden = tree.last_hidden[:, None]  # (B, 1, D)
    beams = _empty(len(prompts), 1, backbone.device)
    beams.states.fill_(ROOT)
    beams.scores.zero_()
    finished = _empty(len(prompts), 0, backbone.device)
    ancestors = torch.zeros(len(prompts), 1, 0, dtype=torch.bool, device=backbone.device)  # (B, K, nodes)
    for depth in range(trie.depth):
        if depth > 0:
            ancestors = _with_self(ancestors.gather(1, beams.parents[..., None].expand(-1, -1, ancestors.shape[2])))
            depths = torch.full((beams.states.shape[1],), depth - 1, device=backbone.device)
            hidden = tree.grow(beams.tokens.clamp(min=0), depths, ancestors)  # (B, K, D)
        candidates = _candidates(backbone, trie, open_leaves, beams, hidden, score_rule, depth)
        beams, finished = _select(trie, candidates, finished, width, depth + 1)
        if beams.states.shape[1] == 0:
            break
    return _items(trie, open_leaves, finished, k)


def _candidates(
    backbone: Backbone,
    trie: TokenTrie,
    open_leaves: OpenLeaves | None,
    beams: _Beams,
    hidden: Tensor,
    rule: ScoreRule,
    depth: int,
) -> _Beams:
    """All children of all beams, (B, K * W), scored; those that lead to no allowed item have -inf. hidden: (B, K, D)."""
    num_requests, num_beams = beams.states.shape
    if depth == 0:  # the same node for every request
        tokens, states = (each.expand(num_requests, 1, -1) for each in trie.children(beams.states[:1]))
    else:
        tokens, states = trie.children(beams.states)  # (B, K, W) each
    log_probs = token_log_probs(backbone, hidden.flatten(0, 1), tokens.flatten(0, 1), rule, depth)
    is_open = states >= 0 if open_leaves is None else open_leaves.is_open(states)
    scores = (beams.scores[..., None] + log_probs.view(tokens.shape)).masked_fill(~is_open, _NEVER)
    parents = torch.arange(num_beams, device=states.device)[:, None].expand_as(states)
    return _Beams(states.flatten(1), tokens.flatten(1), scores.flatten(1), parents.flatten(1))


def _select(trie: TokenTrie, candidates: _Beams, finished: _Beams, width: int, depth: int) -> tuple[_Beams, _Beams]:
    """The beams that go on below `depth` and the finished ones, `width` of each at most."""
    best = candidates.best(candidates.scores, width)
    if depth in trie.leaf_depths:
        leaves = best.scores.masked_fill(~trie.is_leaf(best.states), _NEVER)
        both = [torch.cat(pair, dim=1) for pair in zip(vars(finished).values(), vars(best).values(), strict=True)]
        scores = torch.cat([finished.scores, leaves], dim=1)
        finished = _Beams(*both).best(scores, width)
        growing = candidates.scores.masked_fill(trie.is_leaf(candidates.states), _NEVER)
        best = candidates.best(growing, width)
    if finished.scores.shape[1] == width:
        best.scores.masked_fill_(best.scores < finished.scores[:, -1:], _NEVER)
    num_alive = int((best.scores > _NEVER).sum(1).max())  # best first, so the empty places come last
    best = best.best(best.scores, num_alive)
    return best, finished


def _items(trie: TokenTrie, open_leaves: OpenLeaves | None, finished: _Beams, k: int) -> tuple[Tensor, Tensor]:
    """The first k items on the finished leaves, best leaf first: int32 (B, k) and float32 (B, k), padded."""
    leaves = finished.states.masked_fill(finished.scores == _NEVER, -1)
    items = trie.leaf_items(leaves, k, open_leaves)  # (B, K, C)
    scores = finished.scores[..., None].expand(items.shape).flatten(1)
    items = items.flatten(1)
    first = (items < 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
    items, scores = items.gather(1, first), scores.gather(1, first)
    scores = scores.masked_fill(items < 0, _NEVER)
    missing = (0, k - items.shape[1])
    items = torch.nn.functional.pad(items, missing, value=-1)
    scores = torch.nn.functional.pad(scores, missing, value=_NEVER)
    return items.to(torch.int32).cpu(), scores.float().cpu()


def _with_self(ancestors: Tensor) -> Tensor:
    """Adds K new nodes, each of which sees itself. bool (B, K, S) -> (B, K, S + K)."""
    num_requests, num_beams, _ = ancestors.shape
    itself = torch.eye(num_beams, dtype=torch.bool, device=ancestors.device).expand(num_requests, -1, -1)
    return torch.cat([ancestors, itself], dim=2)


def _empty(num_requests: int, num_beams: int, device: torch.device) -> _Beams:
    def places(fill: float, dtype: torch.dtype) -> Tensor:
        return torch.full((num_requests, num_beams), fill, dtype=dtype, device=device)

    index = torch.int64
    return _Beams(places(-1, index), places(0, index), places(_NEVER, torch.float32), places(0, index))
