"""How likely the model finds an answer, under each softmax scope (`llmrec.engines.scopes`); the likelihood of named candidates.

Letters: B requests, C candidates, L tokens of the longest answer, N positions, W tokens asked for, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.engines.scopes import Children, candidate_tokens, children_on_the_way, rows_of_levels
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.torch.prompt_tree import PromptTree
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens

# Logits over a whole vocabulary are computed for this many positions at a time: 256 x 150,000 float32 are 150 MB.
_POSITIONS_AT_ONCE = 256
# Logits whose exponentials are summed at a time on a CPU: 1.5 MB of float32. 360 rows of 49,152 take half the time that way.
_LOGITS_IN_CACHE = 8 * 49_152
# Nodes of one pass: the attention mask grows with their square.
_NODES_AT_ONCE = 512


def token_log_probs(
    backbone: Backbone,
    hidden: Tensor,
    tokens: Tensor,
    scope: SoftmaxScope,
    rows: slice | None,
    *,
    children: Tensor | None = None,
    normaliser: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of tokens at the position after each hidden state.

    hidden: (N, D). tokens: int64 (N, W), anything where negative. rows: see `rows_of_levels`. children: int64 (N, C), padded
    with -1, what the scope `trie` normalises over; None where those are `tokens`. normaliser: `full_normaliser(backbone, hidden)`
    for the scope `vocabulary`, where it is known already. Only the logits `scope` needs are computed. Returns float32 (N, W).
    """
    if scope == "vocabulary":
        if normaliser is None:
            normaliser = full_normaliser(backbone, hidden)
        return _logits_at(backbone, hidden, tokens, rows) - normaliser
    if scope == "level":
        assert rows is not None, "rows_of_levels refuses the scope 'level' for words"
        logits = backbone.item_logits(hidden, rows)
        values = logits.gather(1, (tokens - backbone.base_vocab_size - rows.start).clamp(min=0))
        return values - logits.logsumexp(1, keepdim=True)
    over = tokens if children is None else children
    both = _logits_at(backbone, hidden, torch.cat([tokens, over], dim=1), rows)  # (N, W + C)
    rivals = both[:, tokens.shape[1] :].masked_fill(over < 0, float("-inf"))
    return both[:, : tokens.shape[1]] - rivals.logsumexp(1, keepdim=True)


def full_normaliser(backbone: Backbone, hidden: Tensor) -> Tensor:
    """The log of the sum of exp(logit) over the vocabulary and all item tokens: hidden (N, D) -> float32 (N, 1)."""
    parts = [hidden.new_zeros(0, 1, dtype=torch.float32)]
    for part in hidden.split(_POSITIONS_AT_ONCE):
        normaliser = _logsumexp(backbone.word_logits(part))
        if backbone.item_table is not None:
            normaliser = torch.logaddexp(normaliser, _logsumexp(backbone.item_logits(part)))
        parts.append(normaliser)
    return torch.cat(parts)


def _logsumexp(logits: Tensor) -> Tensor:
    """Of each row, (N, M) -> (N, 1). It passes over the numbers several times: on a CPU, over rows that stay in its cache."""
    is_large = logits.device.type == "cpu" and logits.numel() > _LOGITS_IN_CACHE
    rows = logits.split(max(1, _LOGITS_IN_CACHE // logits.shape[1])) if is_large else [logits]
    return torch.cat([part.logsumexp(1, keepdim=True) for part in rows])


def _logits_at(backbone: Backbone, hidden: Tensor, tokens: Tensor, rows: slice | None) -> Tensor:
    """The logits of tokens int64 (N, W) after hidden (N, D): float32 (N, W), anything where negative. rows: where all of them are."""
    if tokens.numel() == 0:
        return torch.zeros(tokens.shape, device=tokens.device)
    if rows is not None:
        return backbone.item_logits(hidden, rows).gather(
            1, (tokens - backbone.base_vocab_size - rows.start).clamp(min=0)
        )
    named, column = tokens.clamp(min=0).unique(return_inverse=True)
    parts = [
        backbone.token_logits(hidden[part], named).gather(1, column[part])
        for part in torch.arange(len(hidden), device=hidden.device).split(_POSITIONS_AT_ONCE)
    ]
    return torch.cat(parts)


@torch.no_grad()
def answer_log_probs(
    backbone: Backbone,
    item_tokens: ItemTokens,
    prompts: Sequence[np.ndarray],
    candidates: np.ndarray,
    *,
    softmax_scope: SoftmaxScope = "vocabulary",
    trie: TokenTrie | None = None,
    prompt_cache: PromptCache | None = None,
) -> Tensor:
    """Log-probability of every token of every candidate as the answer to its request's prompt.

    Each prompt is read once; a candidate's tokens see the prompt and each other, never another candidate.

    prompts: B arrays of token ids. candidates: int (B, C), items in [0, num_items). trie: the catalogue's, built here if the
    scope `trie` needs one and none is given. prompt_cache: beginnings of prompts read before. Returns float32 (B, C, L) on
    the CPU, 0 beyond a candidate's own end; L is the length of the longest candidate. Raises RequestError for candidates
    of another shape or range, and what `PromptTree` and `rows_of_levels` raise.
    """
    answers = candidate_tokens(item_tokens, prompts, candidates)  # (B, C, L), -1 beyond the end
    used = answers[answers[..., 0] >= 0]  # (B * C, L)
    if not len(used):
        return torch.zeros(answers.shape)
    lowest, highest = used.masked_fill(used < 0, used.max()).amin(0), used.amax(0)
    ranges = list(zip(lowest.tolist(), highest.tolist(), strict=True))
    is_end = answers < 0
    answers = answers.to(backbone.device)
    children: list[Children | None] = [None] * answers.shape[2]
    if softmax_scope == "trie":
        trie = (TokenTrie.from_item_tokens(item_tokens) if trie is None else trie).to(backbone.device)
        children = children_on_the_way(trie, answers)
        ranges = trie.token_ranges[: answers.shape[2]]
    rows = rows_of_levels(backbone, softmax_scope, ranges)
    answers = answers.clamp(min=0)
    tree = PromptTree(backbone, prompts, answers.shape[2], prompt_cache)
    # at the root all candidates of a request have the same children
    over = None if children[0] is None else children[0].of(slice(0, 1)).flatten(0, 1)
    scores = [
        token_log_probs(backbone, tree.last_hidden, answers[..., 0], softmax_scope, rows[0], children=over)[..., None]
    ]
    if answers.shape[2] > 1:
        at_once = max(1, _NODES_AT_ONCE // (answers.shape[2] - 1))
        later = []
        for start in range(0, answers.shape[1], at_once):
            part = slice(start, start + at_once)
            over = [None if each is None else each.of(part) for each in children[1:]]
            later.append(_later_log_probs(backbone, tree, answers[:, part], softmax_scope, rows, over))
        scores.append(torch.cat(later, dim=1))
    return torch.cat(scores, dim=-1).cpu().masked_fill(is_end, 0.0)


def score_candidates(
    backbone: Backbone,
    item_tokens: ItemTokens,
    prompts: Sequence[np.ndarray],
    candidates: np.ndarray,
    *,
    softmax_scope: SoftmaxScope = "vocabulary",
    trie: TokenTrie | None = None,
    prompt_cache: PromptCache | None = None,
) -> Tensor:
    """Log-likelihood of each candidate's whole answer: float32 (B, C) on the CPU. See `answer_log_probs`."""
    return answer_log_probs(
        backbone, item_tokens, prompts, candidates, softmax_scope=softmax_scope, trie=trie, prompt_cache=prompt_cache
    ).sum(-1)


def _later_log_probs(
    backbone: Backbone,
    tree: PromptTree,
    answers: Tensor,
    scope: SoftmaxScope,
    rows: list[slice | None],
    children: list[Tensor | None],
) -> Tensor:
    """Log-probabilities of all tokens but the first, in one pass. answers: int64 (B, C, L) -> float32 (B, C, L - 1).

    children: for each position after the first what may stand there, int64 (B, C, W), where the scope asks for it.
    """
    num_requests, num_candidates, length = answers.shape
    fed = length - 1  # the last token is predicted, never read
    owner = torch.arange(num_candidates, device=answers.device).repeat_interleave(fed)  # (C * fed,)
    depths = torch.arange(fed, device=answers.device).repeat(num_candidates)
    ancestors = (owner[:, None] == owner) & (depths[:, None] >= depths)
    hidden = tree.grow(
        answers[..., :-1].flatten(1), depths.expand(num_requests, -1), ancestors.expand(num_requests, -1, -1)
    )
    tree.prune()
    hidden = hidden.view(num_requests * num_candidates, fed, -1)
    wanted = answers[..., 1:].flatten(0, 1)  # (B * C, fed)
    scored = []
    for position in range(1, length):
        over = None if children[position - 1] is None else children[position - 1].flatten(0, 1)
        states, tokens = hidden[:, position - 1], wanted[:, position - 1, None]
        scored.append(token_log_probs(backbone, states, tokens, scope, rows[position], children=over))
    return torch.cat(scored, dim=1).view(num_requests, num_candidates, fed)
