"""Retrieval: the items whose vectors have the largest inner product with each request's last hidden state, exactly.

The matrix is read in chunks of items and the best k of every chunk are merged, so that a million items never stand together with
each other as scores: (B, chunk + k) numbers instead of (B, N). `normalise` sums the exponentials on the way, which makes the
scores log-probabilities over the whole catalogue.

Letters: B requests, N items, D width, M items of a chunk, H items excluded for a request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ModelError, RequestError

# Scores that stand in memory at a time: 16 MB in float32. From 2^18 to 2^25 the time is the matrix product's, give or take a fifth.
_SCORES_AT_ONCE = 1 << 22
# Requests up to which a CPU's matrix product is quicker with the catalogue on the left (1e6 x 128, one thread: 2.3 times for one
# request, where the right-hand form falls back to a matrix-vector product; no difference at 16).
_FEW = 8


@dataclass(frozen=True, eq=False)
class Retrieved:
    """items: int64 (B, k), best first, padded with -1; scores: float32 (B, k), padded with -inf."""

    items: Tensor
    scores: Tensor


@torch.no_grad()
def retrieve(
    hidden: Tensor,
    item_matrix: Tensor,
    k: int,
    *,
    scale: float = 1.0,
    bias: Tensor | None = None,
    allowed: Tensor | None = None,
    excluded: Tensor | None = None,
    normalise: bool = False,
) -> Retrieved:
    """The k items with the largest `scale` <hidden, row> + bias.

    hidden: float (B, D). item_matrix: float (N, D) on the same device. bias: float (N,). See `best_of_chunks` for the rest.
    """
    if hidden.ndim != 2 or item_matrix.ndim != 2 or hidden.shape[1] != item_matrix.shape[1]:
        raise RequestError(
            f"hidden states (B, D) and an item matrix (N, D) should share D, but they are {tuple(hidden.shape)} and "
            f"{tuple(item_matrix.shape)}."
        )
    hidden = hidden.to(item_matrix.dtype) * scale

    def scores_of(rows: slice) -> Tensor:
        scores = _inner_products(hidden, item_matrix[rows])
        return scores if bias is None else scores + bias[rows]

    return best_of_chunks(
        scores_of, len(hidden), len(item_matrix), k, allowed=allowed, excluded=excluded, normalise=normalise
    )


@torch.no_grad()
def best_of_chunks(
    scores_of: Callable[[slice], Tensor],
    num_requests: int,
    num_items: int,
    k: int,
    *,
    allowed: Tensor | np.ndarray | None = None,
    allowed_rows: Tensor | np.ndarray | None = None,
    excluded: Tensor | np.ndarray | None = None,
    normalise: bool = False,
) -> Retrieved:
    """The k best items of scores that are made chunk by chunk.

    Args:
        scores_of: a slice of items -> their scores, float (B, M), the same device every time.
        allowed: bool (N,), the items that may come out for any request, or bool (R, N), those of R rules; None for all.
        allowed_rows: int64 (B,), the rule of each request where there are R.
        excluded: int64 (B, H), items that may not come out for one request (its history), padded with -1.
        normalise: whether scores are log-softmax over all N items, those that may not come out included.

    Of equal scores the lower item comes first, across the end of the list too. Raises ModelError where scores are NaN.
    """
    step = max(1, min(num_items, _SCORES_AT_ONCE // max(num_requests, 1)))
    items, best, total = None, None, None
    for start in range(0, num_items, step):
        rows = slice(start, min(start + step, num_items))
        scores = scores_of(rows).float()  # (B, M)
        if normalise:
            mass = scores.logsumexp(dim=1)
            total = mass if total is None else torch.logaddexp(total, mass)
        scores = _masked(scores, rows, allowed, allowed_rows, excluded)
        found, positions = _first(scores, k)
        positions = positions + start
        if best is not None:  # items of earlier chunks stand before their equals of this one
            found, order = torch.cat([best, found], dim=1).sort(dim=1, descending=True, stable=True)
            found, positions = found[:, :k], torch.cat([items, positions], dim=1).gather(1, order[:, :k])
        items, best = positions, found
    if items is None:
        raise RequestError("there are no items to retrieve from.")
    if best.isnan().any():  # NaN sorts before every number
        raise ModelError("the scores of the items hold NaN: the weights or the features they come from do.")
    items = items.masked_fill(best == -torch.inf, -1)
    if total is not None:
        best = best - total[:, None]
    short = k - items.shape[1]
    if short > 0:
        items = torch.nn.functional.pad(items, (0, short), value=-1)
        best = torch.nn.functional.pad(best, (0, short), value=-torch.inf)
    return Retrieved(items, best)


def _first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their positions, of equals the first: float (B, M) -> (B, min(k, M)) twice."""
    found, positions = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if found.shape[1] > k:
        # topk takes any of several equals: where the one it left out is as good as the last, a whole sort decides.
        tied = ((found[:, k - 1] == found[:, k]) & (found[:, k] > -torch.inf)).nonzero()[:, 0]
        found, positions = found[:, :k], positions[:, :k].clone()
        if len(tied):
            positions[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    positions = positions.sort(dim=1).values  # two stable sorts: by position, then by score
    found, order = scores.gather(1, positions).sort(dim=1, descending=True, stable=True)
    return found, positions.gather(1, order)


def _inner_products(hidden: Tensor, rows: Tensor) -> Tensor:
    """(B, D), (M, D) -> (B, M)."""
    if len(hidden) > _FEW or hidden.device.type != "cpu":
        return hidden @ rows.T
    pair = hidden if len(hidden) > 1 else hidden.repeat(2, 1)
    return (rows @ pair.T).T[: len(hidden)]


def _masked(
    scores: Tensor,
    rows: slice,
    allowed: Tensor | np.ndarray | None,
    allowed_rows: Tensor | np.ndarray | None,
    excluded: Tensor | np.ndarray | None,
) -> Tensor:
    """The scores with -inf where an item may not come out. A score that is -inf itself counts as excluded."""
    if allowed is not None:
        mask = torch.as_tensor(allowed[..., rows], device=scores.device)
        if mask.ndim == 2:
            mask = mask[torch.as_tensor(allowed_rows, device=scores.device)]
        scores = scores.masked_fill(~mask, -torch.inf)
    if excluded is not None:
        positions = torch.as_tensor(excluded, device=scores.device, dtype=torch.int64) - rows.start
        inside = (positions >= 0) & (positions < scores.shape[1])
        # A column more takes what lies in other chunks.
        spare = torch.nn.functional.pad(scores, (0, 1))
        spare.scatter_(1, positions.masked_fill(~inside, scores.shape[1]), -torch.inf)
        scores = spare[:, :-1]
    return scores
