"""EASE-R and its low-rank embeddings, fitted on random long-tailed data of Amazon Beauty's size, compared with the textbook's way.

    python benchmarks/ease_r.py --users 22363 --items 12101 --dim 256 --threads 1 --json

| name | what it does |
|---|---|
| ours | `EaseR.fit`: rare items eliminated, the rest inverted, float32 |
| embeddings | `ease_r_embeddings`: no inverse |
| dense_float64 | LAPACK's Cholesky inverse of the whole item-item matrix in float64, then the weights |

Before any time is printed the weights of ours are compared with those of dense_float64 (largest difference over the largest weight),
and so are the ten best items of SAMPLE users: the share that both list. The exact embeddings take an inverse and an eigendecomposition;
their energy (sum of squares) is what ours is compared with at small sizes (tests/baselines/test_by_name.py).
"""

from __future__ import annotations

import argparse

import harness
import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from llmrec.baselines.ease_r import EaseR, ease_r_embeddings, seen_items
from llmrec.data.interactions import Histories, Interactions
from llmrec.recommenders.requests import Requests

SAMPLE = 500  # users whose lists are compared
EVENTS = 7  # of a user, the mean of Amazon Beauty's training events


def make_events(num_users: int, num_items: int) -> Interactions:
    """Users of some taste with EVENTS items each, sampled by 1 / sqrt(rank) within the taste's fifth of the items."""
    rng = np.random.default_rng(0)
    width = max(num_items // 5, EVENTS)
    weights = 1 / np.sqrt(np.arange(1, width + 1))
    cumulated = np.cumsum(weights / weights.sum())
    sampled = np.searchsorted(cumulated, rng.random((num_users, EVENTS))).clip(max=width - 1)
    taste = rng.integers(0, 20, num_users)[:, None]
    items = (sampled * 7919 + taste * (num_items // 20)) % num_items  # popular items of a taste lie apart
    return Interactions(np.arange(num_users + 1) * EVENTS, items.ravel().astype(np.int32), num_items)


def dense_float64(events: Interactions, regularisation: float = 100.0) -> np.ndarray:
    """B, float64 (I, I)."""
    items, seen = seen_items(events)
    whole = sp.csr_array((seen.data, items[seen.indices], seen.indptr), shape=(events.num_users, events.num_items))
    gram = (whole.T @ whole).toarray(order="F")
    gram[np.diag_indices_from(gram)] += regularisation
    factor, _ = lapack.dpotrf(gram, lower=1, clean=0, overwrite_a=1)
    lower, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    inverse /= -inverse.diagonal().copy()
    np.fill_diagonal(inverse, 0.0)
    return inverse


def agreement(events: Interactions) -> tuple[float, float]:
    """Largest difference of a weight over the largest weight, and the share of common items among the ten best of SAMPLE users."""
    model, exact = EaseR(recency=1.0).fit(events), dense_float64(events)
    apart = float(np.abs(model.weights - exact).max() / np.abs(exact).max())
    users = np.arange(min(SAMPLE, events.num_users))
    histories = Histories(events.indptr, events.items).take(users)
    ours = model.rank(Requests(histories), 10, exclude_seen=True).items
    theirs = np.stack([exact[np.unique(histories[user])].sum(axis=0) for user in users])
    for user in users:
        theirs[user, histories[user]] = -np.inf
    best = np.argsort(-theirs, axis=1)[:, :10]
    common = np.mean(
        [len(set(mine) & set(other)) / 10 for mine, other in zip(ours.tolist(), best.tolist(), strict=True)]
    )
    return apart, float(common)


def flags() -> argparse.ArgumentParser:
    """--users, --items, --dim and those of every bench."""
    parser = harness.parser(__doc__, quick={"users": 2000, "items": 1500, "dim": 32, "rounds": 1}, rounds=3)
    parser.add_argument("--users", type=int, default=22363)
    parser.add_argument("--items", type=int, default=12101)
    parser.add_argument("--dim", type=int, default=256, help="of the embeddings")
    return parser


def run(options: argparse.Namespace) -> dict:
    """See the harness."""
    events = make_events(options.users, options.items)
    apart, common = agreement(events)
    harness.require_identical(
        apart < 1e-5 and common > 0.995, f"weights differ by {apart:.1e}, lists agree to {common:.4f}"
    )
    timings = harness.measure(
        {
            "ours": lambda: EaseR().fit(events),
            "embeddings": lambda: ease_r_embeddings(events, options.dim),
            "dense_float64": lambda: dense_float64(events),
        },
        options.rounds,
    )
    over = timings["dense_float64"].median
    return {
        "identical": True,
        "largest_difference": apart,
        "common_items": common,
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "ratio": {"dense_float64": harness.ratios(timings)["dense_float64"]},
        "embeddings_below_dense": over / timings["embeddings"].median,
    }


def main() -> None:
    """The command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
