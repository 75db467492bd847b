"""Our metrics next to scikit-learn's on random rows with many ties; exit status 1 where a figure differs by more than 1e-9.

scikit-learn is the extra `bench` (or the environment of `make setup-peers`); nothing else than numpy is needed besides.

    python benchmarks/metric_peers.py
"""

from __future__ import annotations

import sys

import numpy as np
import sklearn
from sklearn import metrics as peer

from llmrec import metrics


def random_rows(seed: int, digits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels bool (N,), scores float (N,) in (0, 1) rounded to so many digits, users int (N,)."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(200), rng.integers(1, 15, 200))
    labels = rng.random(len(users)) < 0.5
    scores = 1 / (1 + np.exp(-rng.normal(labels, 1.5)))
    return labels, np.clip(np.round(scores, digits), 0.001, 0.999), users


def differences(seed: int, digits: int) -> dict[str, float]:
    """The largest difference of each figure from the peer's."""
    labels, scores, users = random_rows(seed, digits)
    rows = metrics.ranked_rows(labels, scores, users)
    own = [(labels[users == user], scores[users == user]) for user in rows.users]
    off = scores != 0.5  # the peers know no coin: an example on the threshold is compared by hand in tests/metrics
    said = scores[off] > 0.5
    pairs = {
        "auc": (metrics.auc(labels, scores), peer.roc_auc_score(labels, scores)),
        "auc by user": (metrics.user_auc(labels, scores, users).values, [peer.roc_auc_score(*one) for one in own]),
        "logloss": (metrics.logloss(labels, scores), peer.log_loss(labels, scores)),
        "brier": (metrics.brier(labels, scores), peer.brier_score_loss(labels, scores)),
        "accuracy": (metrics.binary_accuracy(labels[off], scores[off]), peer.accuracy_score(labels[off], said)),
        "f1": (metrics.binary_f1(labels[off], scores[off]), peer.f1_score(labels[off], said)),
    }
    for k in (1, 5):
        pairs[f"ndcg@{k} by user"] = (
            metrics.user_ndcg(rows, k),
            [peer.ndcg_score(one[0][None], one[1][None], k=k) for one in own],
        )
    distinct = scores + 1e-6 * np.random.default_rng(seed).permutation(len(scores)) / len(
        scores
    )  # the peer's tie rule is another
    ranked = metrics.ranked_rows(labels, distinct, users)
    pairs["average precision by user"] = (
        metrics.user_average_precision(ranked),
        [peer.average_precision_score(labels[users == user], distinct[users == user]) for user in ranked.users],
    )
    return {name: float(np.abs(np.subtract(ours, theirs)).max()) for name, (ours, theirs) in pairs.items()}


def main() -> int:
    """Prints the largest difference of each figure over twenty samples."""
    worst: dict[str, float] = {}
    for seed in range(20):
        for name, difference in differences(seed, digits=1 + seed % 3).items():
            worst[name] = max(worst.get(name, 0.0), difference)
    print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}; largest difference over 20 samples")
    for name, difference in worst.items():
        print(f"  {name:28s} {difference:.1e}")
    return int(max(worst.values()) > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
