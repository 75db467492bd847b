"""How likely the model finds an answer: the score rules, and the likelihood of named candidates.

| rule | softmax at an answer position over | right for |
|---|---|---|
| `full` | the vocabulary and all item tokens | models trained on that loss; equals Hugging Face's own scores |
| `level` | the item tokens of that level (all items for unique ids) | models trained with the `level` loss |

Letters: B requests, C candidates, L tokens of the longest answer, N positions, W tokens asked for, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.causal_lm import Backbone, ScoreRule
from llmrec.engines.prompt_tree import PromptTree
from llmrec.errors import ModelError, RequestError
from llmrec.items.forms import ItemTokens

# Logits over a whole vocabulary are computed for this many positions at a time: 256 x 150,000 float32 are 150 MB.
_POSITIONS_AT_ONCE = 256
# Nodes of one pass: the attention mask grows with their square.
_NODES_AT_ONCE = 512


def check_rule(backbone: Backbone, rule: ScoreRule, token_ranges: Sequence[tuple[int, int]]) -> None:
    """Raises ModelError where the model has no such tokens or `rule` cannot score them.

    token_ranges: the lowest and highest token id at each position of an answer.
    """
    if rule not in ("full", "level"):
        raise ModelError(f"expected the score rule 'full' or 'level', got {rule!r}.")
    highest = max(high for _, high in token_ranges)
    if highest >= backbone.num_tokens:
        raise ModelError(
            f"the item tokens reach id {highest}, but the model has only {backbone.num_tokens} tokens, its item table "
            "included; use the model they were made for."
        )
    if rule == "level":
        starts = [] if backbone.item_table is None else backbone.item_table.starts
        levels = [(backbone.base_vocab_size + a, backbone.base_vocab_size + b) for a, b in itertools.pairwise(starts)]
        fits = [low >= level[0] and high < level[1] for (low, high), level in zip(token_ranges, levels, strict=False)]
        if len(levels) < len(token_ranges) or not all(fits):
            raise ModelError(
                "the score rule 'level' normalises over the item tokens of one level, and these answers also hold other "
                "tokens, as titles do; use the rule 'full', or the form unique_id or semantic_id."
            )


def token_log_probs(backbone: Backbone, hidden: Tensor, tokens: Tensor, rule: ScoreRule, level: int) -> Tensor:
    """Log-probabilities of tokens at the position after each hidden state.

    hidden: (N, D). tokens: int64 (N, W), anything where negative. level: the answer position, from 0. Only the logits
    `rule` needs are computed. Returns float32 (N, W).
    """
    if rule == "level":
        start, stop = backbone.item_table.starts[level : level + 2]
        logits = backbone.item_logits(hidden, slice(start, stop))
        return _log_softmax_at(logits, tokens - (backbone.base_vocab_size + start))
    parts = zip(hidden.split(_POSITIONS_AT_ONCE), tokens.split(_POSITIONS_AT_ONCE), strict=True)
    return torch.cat([_log_softmax_at(backbone.logits(states), wanted) for states, wanted in parts])


@torch.no_grad()
def answer_log_probs(
    backbone: Backbone,
    item_tokens: ItemTokens,
    prompts: Sequence[np.ndarray],
    candidates: np.ndarray,
    *,
    score_rule: ScoreRule = "full",
) -> Tensor:
    """Log-probability of every token of every candidate as the answer to its request's prompt.

    Each prompt is read once; a candidate's tokens see the prompt and each other, never another candidate.

    prompts: B arrays of token ids. candidates: int (B, C), items in [0, num_items). Returns float32 (B, C, L) on the CPU,
    0 beyond a candidate's own end; L is the length of the longest candidate. Raises RequestError for candidates of
    another shape or range, and what `PromptTree` and `check_rule` raise.
    """
    answers = _candidate_tokens(item_tokens, prompts, candidates)  # (B, C, L), -1 beyond the end
    used = answers[answers[..., 0] >= 0]  # (B * C, L)
    if not len(used):
        return torch.zeros(answers.shape)
    lowest, highest = used.masked_fill(used < 0, used.max()).amin(0), used.amax(0)
    check_rule(backbone, score_rule, list(zip(lowest.tolist(), highest.tolist(), strict=True)))
    is_end = answers < 0
    answers = answers.clamp(min=0).to(backbone.device)
    tree = PromptTree(backbone, prompts, answers.shape[2])
    first = token_log_probs(backbone, tree.last_hidden, answers[..., 0], score_rule, 0)  # (B, C)
    scores = [first[..., None]]
    if answers.shape[2] > 1:
        parts = answers.split(max(1, _NODES_AT_ONCE // (answers.shape[2] - 1)), dim=1)
        scores.append(torch.cat([_later_log_probs(backbone, tree, part, score_rule) for part in parts], dim=1))
    return torch.cat(scores, dim=-1).cpu().masked_fill(is_end, 0.0)


def score_candidates(
    backbone: Backbone,
    item_tokens: ItemTokens,
    prompts: Sequence[np.ndarray],
    candidates: np.ndarray,
    *,
    score_rule: ScoreRule = "full",
) -> Tensor:
    """Log-likelihood of each candidate's whole answer: float32 (B, C) on the CPU. See `answer_log_probs`."""
    return answer_log_probs(backbone, item_tokens, prompts, candidates, score_rule=score_rule).sum(-1)


def _later_log_probs(backbone: Backbone, tree: PromptTree, answers: Tensor, rule: ScoreRule) -> Tensor:
    """Log-probabilities of all tokens but the first, in one pass. answers: int64 (B, C, L) -> float32 (B, C, L - 1)."""
    num_requests, num_candidates, length = answers.shape
    fed = length - 1  # the last token is predicted, never read
    owner = torch.arange(num_candidates, device=answers.device).repeat_interleave(fed)  # (C * fed,)
    depths = torch.arange(fed, device=answers.device).repeat(num_candidates)
    ancestors = (owner[:, None] == owner) & (depths[:, None] >= depths)
    hidden = tree.grow(answers[..., :-1].flatten(1), depths, ancestors.expand(num_requests, -1, -1))
    tree.prune()
    hidden = hidden.view(num_requests * num_candidates, fed, -1)
    wanted = answers[..., 1:].flatten(0, 1)  # (B * C, fed)
    scored = [
        token_log_probs(backbone, hidden[:, place], wanted[:, place, None], rule, place + 1) for place in range(fed)
    ]
    return torch.cat(scored, dim=1).view(num_requests, num_candidates, fed)


def _log_softmax_at(logits: Tensor, columns: Tensor) -> Tensor:
    """log softmax(logits)[columns] by row, arbitrary where a column is negative. (N, M), (N, W) -> (N, W)."""
    return logits.gather(1, columns.clamp(min=0)) - logits.logsumexp(1, keepdim=True)


def _candidate_tokens(item_tokens: ItemTokens, prompts: Sequence[np.ndarray], candidates: np.ndarray) -> Tensor:
    """Tokens of each candidate's answer, int64 (B, C, L), padded with -1 to the longest of them."""
    candidates = np.asarray(candidates)
    if candidates.ndim != 2 or len(candidates) != len(prompts):
        raise RequestError(
            f"expected candidates of shape ({len(prompts)}, C), a row a prompt, got {tuple(candidates.shape)}."
        )
    wrong = (candidates < 0) | (candidates >= item_tokens.num_items)
    if wrong.any():
        raise RequestError(
            f"expected candidates in [0, {item_tokens.num_items}), the items of the catalogue, got {candidates[wrong][0]}."
        )
    longest = int(item_tokens.lengths[candidates].max(initial=1))
    return torch.from_numpy(item_tokens.sequences[candidates][..., :longest].astype(np.int64))
