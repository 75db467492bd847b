"""Beam search over the catalogue's trie on the Hugging Face model itself: every beam is an item.

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

Letters: B requests, K beams, W children, N items, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.torch.beam_reader import BeamReader
from llmrec.engines.torch.likelihood import rows_of_levels, token_log_probs
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.errors import ModelError, RequestError

_NEVER = float("-inf")


@dataclass
class _Beams:
    """What grows (or has finished), best first; scores of -inf are empty positions.

    states: int64 (B, K), trie nodes. tokens: int64 (B, K), the last token of each. scores: float32 (B, K).
    parents: int64 (B, K), the position of each beam's parent among the beams before.
    """

    states: Tensor
    tokens: Tensor
    scores: Tensor
    parents: Tensor

    def best(self, scores: Tensor, num: int) -> _Beams:
        """The `num` best by `scores` (B, K), which become the scores."""
        scores, position = scores.topk(min(num, scores.shape[1]), dim=1)
        return _Beams(
            self.states.gather(1, position), self.tokens.gather(1, position), scores, self.parents.gather(1, position)
        )


@torch.no_grad()
def beam_search(
    backbone: Backbone,
    trie: TokenTrie,
    prompts: Sequence[np.ndarray],
    k: int,
    *,
    num_beams: int = 20,
    allowed_items: AllowedItems | None = None,
    softmax_scope: SoftmaxScope = "vocabulary",
    prompt_cache: PromptCache | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items for each prompt.

    prompts: B arrays of token ids, each ending where the answer begins. k: items per request. num_beams: K; never less than
    k are kept. allowed_items: what may come out; None for everything. It never changes an item's score. softmax_scope: see
    `likelihood`. prompt_cache: beginnings of prompts read before. The trie, and allowed_items made with it, lie where the model
    does. Memory: the cache of a pass holds about B * (T + K * (L - 1)) positions, T being the longest prompt and L the longest
    answer, and up to half as many nodes more where answers are read ahead.

    Returns, on the CPU and best first, items int32 (B, k), padded with -1 where fewer can be reached, and their scores
    float32 (B, k), log-probabilities of whole answers, padded with -inf. Items on one leaf (equal titles) have the same
    score and stand in catalogue order. Raises ModelError for a backbone or scope that cannot do this, RequestError for
    empty or too long prompts, or k < 1.
    """
    if k < 1 or num_beams < 1:
        raise RequestError(f"expected k and num_beams of at least 1, got {k} and {num_beams}.")
    rows = rows_of_levels(backbone, softmax_scope, trie.token_ranges)
    width = max(k, num_beams)
    tree = PromptTree(backbone, prompts, trie.depth, prompt_cache)
    beams = _root(trie, len(prompts))
    finished = _Beams(*(values[:, :0] for values in vars(beams).values()))
    reader = BeamReader(backbone, tree, trie, softmax_scope)
    for depth in range(trie.depth):
        candidates = _candidates(backbone, trie, allowed_items, beams, reader, depth, softmax_scope, rows[depth])
        beams, finished = _select(trie, candidates, finished, width, depth + 1)
        if beams.states.shape[1] == 0:
            break
    if softmax_scope == "vocabulary":
        finished.scores -= reader.owed
        _check_scores(finished.scores)
    return _items(trie, allowed_items, finished, k)


def _candidates(
    backbone: Backbone,
    trie: TokenTrie,
    allowed_items: AllowedItems | None,
    beams: _Beams,
    reader: BeamReader,
    depth: int,
    scope: SoftmaxScope,
    item_rows: slice | None,
) -> _Beams:
    """All children of all beams, (B, K * W), scored; those that lead to no allowed item have -inf."""
    num_beams = beams.states.shape[1]
    tokens, states = trie.children(beams.states, depth)  # (B, K, W) each
    reached = reader.read(beams.states, beams.tokens, beams.parents, beams.scores > _NEVER, depth)
    log_probs = torch.zeros(tokens.shape, device=tokens.device).flatten(0, 1)  # (B * K, W): what is not read is certain
    read = token_log_probs(
        backbone, reached.hidden, tokens.flatten(0, 1)[reached.rows], scope, item_rows, normaliser=reached.normaliser
    )
    _check_scores(read)
    log_probs[reached.rows] = read
    is_allowed = states >= 0 if allowed_items is None else allowed_items.is_allowed(states)
    scores = (beams.scores[..., None] + log_probs.view(tokens.shape)).masked_fill_(~is_allowed, _NEVER)
    parents = torch.arange(num_beams, device=states.device)[:, None].expand_as(states)
    return _Beams(states.flatten(1), tokens.flatten(1), scores.flatten(1), parents.flatten(1))


def _check_scores(scores: Tensor) -> None:
    if scores.isnan().any():
        raise ModelError("the model gave NaN as a score: its weights hold NaN or infinity; train it again.")


def _select(trie: TokenTrie, candidates: _Beams, finished: _Beams, width: int, depth: int) -> tuple[_Beams, _Beams]:
    """The beams that go on below `depth` and the finished ones, `width` of each at most."""
    best = candidates.best(candidates.scores, width)
    if depth in trie.leaf_depths:
        leaves = best.scores.masked_fill(~trie.is_leaf(best.states, depth), _NEVER)
        both = [torch.cat(pair, dim=1) for pair in zip(vars(finished).values(), vars(best).values(), strict=True)]
        scores = torch.cat([finished.scores, leaves], dim=1)
        finished = _Beams(*both).best(scores, width)
        growing = candidates.scores.masked_fill(trie.is_leaf(candidates.states, depth), _NEVER)
        best = candidates.best(growing, width)
    if finished.scores.shape[1] == width:
        best.scores.masked_fill_(best.scores < finished.scores[:, -1:], _NEVER)
    num_alive = int((best.scores > _NEVER).sum(1).max())  # best first, so the empty positions come last
    best = best.best(best.scores, num_alive)
    return best, finished


def _items(trie: TokenTrie, allowed_items: AllowedItems | None, finished: _Beams, k: int) -> tuple[Tensor, Tensor]:
    """The first k allowed items on the finished leaves, best leaf first: int32 (B, k) and float32 (B, k), padded."""
    starts, ends = node_range(finished.states.masked_fill(finished.scores == _NEVER, -1))
    ranks = starts[..., None] + torch.arange(trie.max_leaf_items, device=starts.device)  # (B, K, C)
    is_item = (ranks < ends[..., None]).flatten(1)
    ranks = ranks.flatten(1).clamp(max=trie.num_items - 1)
    if allowed_items is not None:
        is_item &= allowed_items.count(ranks, ranks + 1) > 0
    scores = finished.scores.repeat_interleave(trie.max_leaf_items, dim=1).masked_fill(~is_item, _NEVER)
    items = trie.items[ranks].masked_fill(~is_item, -1)
    first = (~is_item).byte().argsort(dim=1, stable=True)[:, :k]
    missing = (0, k - first.shape[1])
    items = torch.nn.functional.pad(items.gather(1, first), missing, value=-1)
    scores = torch.nn.functional.pad(scores.gather(1, first), missing, value=_NEVER)
    return items.cpu(), scores.float().cpu()


def _root(trie: TokenTrie, num_requests: int) -> _Beams:
    """The node all items are below, with a score of 0, for each request."""
    states = torch.full((num_requests, 1), trie.root, device=trie.items.device)
    nothing = torch.zeros_like(states)
    return _Beams(states, nothing, nothing.float(), nothing)
