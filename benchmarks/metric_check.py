"""What has to hold before peers are compared: metrics equal ranx's, RecTools' cut training step is its own, popularity travels exactly.

    make test-peers                 # or: python benchmarks/quality.py --check

ranx breaks ties by sorting. Ours are expectations over all orders of the tied items, so ranx is asked about each place the target can
have among them, as a list of its own, and the mean is compared.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import require_identical
from peer_files import SCRIPTS, Answers, PeerFailed, answer_of, start
from quality_plan import PEERS, POPULARITY

from llmrec import metrics
from llmrec.baselines.popularity import Popularity
from llmrec.data.prepare import prepare
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_arrow

OF_RANX = {"recall": "recall", "hit": "hit_rate", "precision": "precision", "f1": "f1", "ndcg": "ndcg", "mrr": "mrr"}
KS = (1, 5, 10, 20)
QUERIES, ITEMS, LEVELS = 300, 60, 12  # LEVELS: different scores of a list with ties
TOLERANCE = 1e-12


def run() -> None:
    """Prints a line for each check. Raises NotIdentical for the first that fails."""
    print(f"ranx: {accuracy():.1e} at most between {', '.join(metrics.ACCURACY)} at {KS}, with and without ties")
    print(f"ranx: {within_users():.1e} at most between the metrics within users (several liked items each, no ties)")
    print(f"RecTools: {padding():.1e} at most, relative, between its training step and the one that skips padding")
    popularity()
    print(
        "popularity of RecTools, written to a file and ranked by our evaluator, has our popularity's numbers to the last bit"
    )


def accuracy() -> float:
    """The largest difference of the metrics of one target."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.random((QUERIES, ITEMS)), rng.integers(0, LEVELS, (QUERIES, ITEMS))])
    targets = rng.integers(0, ITEMS, len(scores))
    greater, equal = metrics.ranks_from_scores(scores, targets)
    queries, ordered, owners = [], [], []
    for row, target in enumerate(targets):
        tied = np.flatnonzero((scores[row] == scores[row, target]) & (np.arange(ITEMS) != target))
        for place in range(len(tied) + 1):  # the target below `place` of the items it ties with
            shifted = scores[row].copy()
            shifted[tied[:place]] += 0.25  # scores are whole numbers, or have no ties
            shifted[tied[place:]] -= 0.25
            queries.append(shifted)
            ordered.append(target)
            owners.append(row)
    liked = np.zeros((len(queries), ITEMS), bool)
    liked[np.arange(len(queries)), ordered] = True
    names = {f"{OF_RANX[name]}@{k}": (name, k) for name in metrics.ACCURACY for k in KS}
    found = of_ranx(np.array(queries), liked, list(names))
    sizes = np.bincount(owners)
    return largest(
        {name: np.bincount(owners, weights=values) / sizes for name, values in found.items()},
        {name: metrics.ACCURACY[ours](greater, equal, k) for name, (ours, k) in names.items()},
    )


def within_users() -> float:
    """The largest difference of the metrics of users with several liked items among their own rows."""
    rng = np.random.default_rng(1)
    scores, liked = rng.random((QUERIES, 12)), rng.random((QUERIES, 12)) < 0.4
    both = liked.any(1) & ~liked.all(1)
    scores, liked = scores[both], liked[both]
    rows = metrics.ranked_rows(liked.ravel(), scores.ravel(), np.repeat(np.arange(len(scores)), 12))
    ours = {f"ndcg@{k}": metrics.user_ndcg(rows, k) for k in KS} | {
        f"recall@{k}": metrics.user_recall(rows, k) for k in KS
    }
    ours |= {"mrr": metrics.user_mrr(rows), "map": metrics.user_average_precision(rows)}
    return largest(of_ranx(scores, liked, list(ours)), ours)


def of_ranx(scores: np.ndarray, liked: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """ranx's metric -> a value a list: scores float (U, I) without ties, liked bool (U, I), one at least in each row."""
    queries, items = (places.ravel() for places in np.indices(scores.shape))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = {"query": queries, "item": items, "score": scores.ravel(), "liked": liked.ravel()}
        write_arrow(folder / "lists.parquet", pa.table(table))
        (folder / "names.json").write_text(json.dumps(names))
        if code := start(SCRIPTS / "metrics_check.py", folder):
            raise PeerFailed(f"ranx ended with the code {code}; what it wrote on standard error says more.")
        return {name: np.array(values) for name, values in json.loads((folder / "values.json").read_text()).items()}


def largest(theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> float:
    """The largest difference. Raises NotIdentical for one beyond TOLERANCE."""
    differences = {name: float(np.abs(theirs[name] - ours[name]).max()) for name in ours}
    for name, difference in differences.items():
        require_identical(difference <= TOLERANCE, f"{name} of ranx and ours differ by {difference:.2g}")
    return max(differences.values())


def padding() -> float:
    """The largest relative difference of loss and gradients."""
    found = answer_of(SCRIPTS / "padding_check.py")
    for case, differences in found.items():
        for what, difference in differences.items():
            require_identical(
                difference < 1e-4, f"the {what} of RecTools' step and the cut one differ by {difference:.2g} ({case})"
            )
    return max(max(differences.values()) for differences in found.values())


def popularity() -> None:
    """Raises NotIdentical unless both are equal, on random events with many ties."""
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lengths = rng.integers(3, 12, 200)
        users, items = np.repeat(np.arange(200), lengths), rng.integers(0, 50, lengths.sum())
        events = {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "step": np.arange(len(users)),
        }
        write_arrow(folder / "events.parquet", pa.table(events))
        names = [f"i{item}" for item in rng.permutation(50)]
        write_arrow(folder / "items.parquet", pa.table({"item_id": names, "title": names}))
        data = prepare(folder / "items.parquet", folder / "events.parquet", folder / "data")
        task = load_task("leave_one_out", ["metrics=[recall, ndcg, mrr]"])
        split = task.split.make(data.interactions)
        asked = {"test": split.test, "valid": split.valid}
        plan = PEERS[POPULARITY]
        with Answers(POPULARITY, plan, split.train, asked, work=folder / "work", k=20, seed=0, budget_min=1) as answers:
            for subset in asked:
                theirs = evaluate(answers.recommender(subset), data, task, subset, split=split)
                ours = evaluate(Popularity().fit(split.train), data, task, subset, split=split)
                require_identical(theirs.metrics == ours.metrics, f"popularity of RecTools and ours on '{subset}'")
