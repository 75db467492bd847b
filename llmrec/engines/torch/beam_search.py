"""Beam search over the catalogue's trie on the Hugging Face model itself: see `llmrec.engines.beams` for what a beam is.

Letters: B requests, K beams, W children, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.allowed_items import AllowedItems
from llmrec.engines.beams import NEVER, Beams, Trace, beam_width, best_items, check_scores, grow_beams
from llmrec.engines.scopes import rows_of_levels
from llmrec.engines.torch.beam_reader import BeamReader
from llmrec.engines.torch.likelihood import token_log_probs
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.engines.trie import TokenTrie


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
    trace: Trace | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items for each prompt.

    prompts: B arrays of token ids, each ending where the answer begins. k: items per request. num_beams: K; never less than
    k are kept. allowed_items: what may come out; None for everything. It never changes an item's score. softmax_scope: see
    `likelihood`. prompt_cache: beginnings of prompts read before. trace: see `grow_beams`. The trie, and allowed_items made with
    it, lie where the model does. Memory: the cache of a pass holds about B * (T + K * (L - 1)) positions, T being the longest
    prompt and L the longest answer, and up to half as many nodes more where answers are read ahead.

    Returns, on the CPU and best first, items int32 (B, k), padded with -1 where fewer can be reached, and their scores
    float32 (B, k), log-probabilities of whole answers, padded with -inf. Items on one leaf (equal titles) have the same
    score and stand in catalogue order. Raises ModelError for a backbone or scope that cannot do this, RequestError for
    empty or too long prompts, or k < 1.
    """
    width = beam_width(k, num_beams)
    rows = rows_of_levels(backbone, softmax_scope, trie.token_ranges)
    tree = PromptTree(backbone, prompts, trie.depth, prompt_cache)
    reader = BeamReader(backbone, tree, trie, softmax_scope)

    def child_scores(beams: Beams, tokens: Tensor, is_allowed: Tensor, depth: int) -> Tensor:
        reached = reader.read(beams.states, beams.tokens, beams.parents, beams.scores > NEVER, depth)
        log_probs = torch.zeros(tokens.shape, device=tokens.device).flatten(
            0, 1
        )  # (B * K, W): what is not read is certain
        log_probs[reached.rows] = token_log_probs(
            backbone, reached.hidden, tokens.flatten(0, 1)[reached.rows], softmax_scope, rows[depth],
            normaliser=reached.normaliser,
        )  # fmt: skip
        return log_probs.view(tokens.shape)

    finished = grow_beams(trie, len(prompts), width, allowed_items, child_scores, trace)
    if softmax_scope == "vocabulary":
        for beams in (finished, *itertools.chain.from_iterable(trace or ())):
            beams.scores -= reader.owed
        check_scores(finished.scores)
    return best_items(trie, allowed_items, finished, k)
