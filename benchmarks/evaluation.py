"""Full-ranking metrics: scores of every item for every user, rank of the target, recall and NDCG, compared with the bare product.

    python benchmarks/evaluation.py --users 22363 --items 12101 --dim 64 --threads 1 --json

Users and items are random vectors, histories are random items and are excluded; the sizes are Amazon Beauty's.

| name | what it does with a batch of scores |
|---|---|
| gemm | nothing: the lower bound |
| ours | what `llmrec eval` does: mask the seen, count what beats the target (`metrics.ranks_from_scores`), recall and NDCG |
| evaluate | the whole of `llmrec eval`: 24 metrics, lists for coverage and popularity, bootstrap intervals |
| recbole_style | top-k of the masked scores, a positives matrix gathered at it, recall and NDCG from the hits (RecBole's method) |
| argsort_loop | sorts each user's scores and looks the target up; timed on a sample of users and scaled up to all |

Every peer multiplies in the same batches by the same call, so that scores are the same to the last bit. Letters: U users,
I items, D width, B batch, k the longest list.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import harness
import numpy as np
import torch

from llmrec import metrics
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories, Interactions
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.recommenders.requests import REQUESTS_AT_ONCE, DenseRecommender, Requests

K = 20
SAMPLE = 500  # users of the sorting loop
HISTORY = 9  # the mean of Amazon Beauty


class InnerProduct(DenseRecommender):
    """score(u, i) = <user u, item i>, float32."""

    name = "inner_product"

    def __init__(self, users: np.ndarray, items: np.ndarray) -> None:
        self.users, self.items_transposed = users, np.ascontiguousarray(items.T)
        self.num_items = len(items)

    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I)."""
        return self.users[requests.users] @ self.items_transposed


@dataclass
class Instance:
    """What all peers rank. requests: U; targets: int64 (U,)."""

    model: InnerProduct
    requests: Requests
    targets: np.ndarray

    def batches(self, num_users: int | None = None):
        """Requests and targets, REQUESTS_AT_ONCE users at a time."""
        for start in range(0, num_users or len(self.targets), REQUESTS_AT_ONCE):
            rows = np.arange(start, min(start + REQUESTS_AT_ONCE, num_users or len(self.targets)))
            yield self.requests.take(rows), self.targets[rows]


def make_instance(num_users: int, num_items: int, dim: int) -> Instance:
    """Random vectors, histories of HISTORY items each and targets that are not among them."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, dim), dtype=np.float32) for n in (num_users, num_items))
    first = rng.integers(0, num_items, num_users)
    # Steps along the catalogue from a random position: distinct items, the last of them the target.
    sequences = (
        first[:, None] + np.cumsum(rng.integers(1, num_items // (HISTORY + 2), (num_users, HISTORY + 1)), 1)
    ) % num_items
    histories = Histories(np.arange(num_users + 1) * HISTORY, sequences[:, :HISTORY].ravel())
    return Instance(
        InnerProduct(users, items), Requests(histories, np.arange(num_users, dtype=np.int32)), sequences[:, HISTORY]
    )


def gemm(instance: Instance) -> None:
    """The scores and nothing else, into one buffer."""
    out = np.empty((REQUESTS_AT_ONCE, instance.model.num_items), np.float32)
    for start in range(0, len(instance.targets), REQUESTS_AT_ONCE):
        users = instance.model.users[start : start + REQUESTS_AT_ONCE]
        np.matmul(users, instance.model.items_transposed, out=out[: len(users)])


def ours(instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """recall@k, NDCG@k and the number of items that tie with the target: float64 (U,) each."""
    counts = []
    for requests, targets in instance.batches():
        scores, allowed = instance.model.allowed_scores(requests, exclude_seen=True)
        counts.append(metrics.ranks_from_scores(scores, targets, allowed))
    greater, equal = (np.concatenate(part) for part in zip(*counts, strict=True))
    return metrics.recall(greater, equal, K), metrics.ndcg(greater, equal, K), equal


def recbole_style(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """The method of RecBole's collector and metrics, written anew: recall@k and NDCG@k, float64 (U,)."""
    hits, positives = [], []
    for requests, targets in instance.batches():
        scores = torch.from_numpy(instance.model.scores(requests))
        rows = torch.arange(len(targets))
        scores[rows.repeat_interleave(HISTORY), torch.from_numpy(requests.histories.items).long()] = -torch.inf
        listed = scores.topk(K, dim=1).indices  # (B, k)
        is_positive = torch.zeros_like(scores, dtype=torch.int32)
        is_positive[rows, torch.from_numpy(targets)] = 1
        hits.append(is_positive.gather(1, listed))
        positives.append(is_positive.sum(dim=1))
    is_hit, num_positive = torch.cat(hits).numpy(), torch.cat(positives).numpy()
    return is_hit.sum(axis=1) / num_positive, (is_hit / np.log2(np.arange(2, K + 2))).sum(axis=1)


def argsort_loop(instance: Instance, num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """recall@k and NDCG@k of the first users, float64 (num_users,), one sort per user."""
    recall, ndcg = np.zeros(num_users), np.zeros(num_users)
    user = 0
    for requests, targets in instance.batches(num_users):
        seen = requests.histories.items.reshape(-1, HISTORY)
        for scores, target, closed in zip(instance.model.scores(requests), targets, seen, strict=True):
            scores[closed] = -np.inf
            rank = list(np.argsort(-scores)).index(target) + 1
            recall[user], ndcg[user] = rank <= K, (rank <= K) / np.log2(rank + 1)
            user += 1
    return recall, ndcg


def make_data(instance: Instance) -> Data:
    """The same users with two events more, the last one the test target, as data that `evaluate` takes."""
    num_users, num_items = len(instance.targets), instance.model.num_items
    events = np.concatenate(
        [instance.requests.histories.items.reshape(num_users, HISTORY), instance.targets[:, None]], axis=1
    )
    catalog = Catalog.from_rows([{"item_id": str(item), "title": str(item)} for item in range(num_items)])
    interactions = Interactions(np.arange(num_users + 1) * (HISTORY + 1), events.ravel(), num_items)
    return Data(catalog, interactions, Features(num_items), [str(user) for user in range(num_users)])


def check(instance: Instance, sample: int) -> int:
    """Raises NotIdentical unless all give each user the same metrics; returns how many targets tie with another item.

    Those users are left out: we count the expectation over their orders, a sort takes one of them.
    """
    recall, ndcg, equal = ours(instance)
    for name, (their_recall, their_ndcg) in (
        ("recbole_style", recbole_style(instance)),
        ("argsort_loop", argsort_loop(instance, sample)),
    ):
        clear = equal[: len(their_recall)] == 0
        for what, mine, theirs in (("recall", recall, their_recall), ("NDCG", ndcg, their_ndcg)):
            same = np.allclose(mine[: len(clear)][clear], theirs[clear], rtol=0, atol=1e-12)
            harness.require_identical(same, f"{what}@{K} of {name} differs from ours")
    return int(np.count_nonzero(equal))


def flags() -> argparse.ArgumentParser:
    """--users, --items, --dim and those of every bench."""
    parser = harness.parser(__doc__, quick={"users": 2000, "items": 3000, "rounds": 3})
    parser.add_argument("--users", type=int, default=22363)
    parser.add_argument("--items", type=int, default=12101)
    parser.add_argument("--dim", type=int, default=64)
    return parser


def run(options: argparse.Namespace) -> dict:
    """See the harness."""
    torch.set_num_threads(options.threads)
    instance = make_instance(options.users, options.items, options.dim)
    sample = min(SAMPLE, options.users)
    ties = check(instance, sample)
    data, task = make_data(instance), load_task("leave_one_out")
    split = task.make(data)
    timings = harness.measure(
        {
            "gemm": lambda: gemm(instance),
            "ours": lambda: ours(instance),
            "evaluate": lambda: evaluate(instance.model, data, task, split=split),
            "recbole_style": lambda: recbole_style(instance),
            "argsort_loop": lambda: argsort_loop(instance, sample),
        },
        options.rounds,
    )
    timings["argsort_loop"] = timings["argsort_loop"].scaled(options.users / sample)
    ratio = harness.ratios(timings)
    over_gemm = timings["ours"].median / timings["gemm"].median
    return {
        "identical": True,
        "targets_with_ties": ties,
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "ratio": {name: ratio[name] for name in ("recbole_style", "argsort_loop")},
        "over_gemm": over_gemm,
        "evaluate_over_gemm": timings["evaluate"].median / timings["gemm"].median,
        "lower_bound": {
            "gemm_seconds": timings["gemm"].median,
            "gemm_seconds_at_peak": 2 * options.users * options.items * options.dim / harness.gemm_peak(),
        },
        "notes": {"argsort_loop": f"timed on {sample} users, scaled to {options.users}"},
        "goals": [harness.goal("full-ranking metrics over the bare product", over_gemm, 1.9, "x")],
    }


def main() -> None:
    """The command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
