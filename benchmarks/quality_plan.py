"""The peers that benchmarks/quality.py measures, each a model of another package with the settings it is measured with.

A number in a comment is where a setting comes from; what says nothing is the package's own default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

POPULARITY = "popularity"  # the peer that must equal ours exactly before any number is printed


@dataclass(frozen=True)
class PeerPlan:
    """script: of benchmarks/peers, without "_peer.py"; model: its name there; settings: JSON values."""

    script: str
    model: str
    settings: dict = field(default_factory=dict)


_SASREC = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 50, "use_key_padding_mask": True}
_ESASREC = _SASREC | {"layers": "ligr", "loss": "sampled_softmax", "n_negatives": 256}

PEERS: dict[str, PeerPlan] = {
    POPULARITY: PeerPlan("rectools", "popularity"),
    # recency .6 is what our item-kNN and EASE-R have
    "item_knn_tfidf": PeerPlan("implicit", "item_knn", {"weighting": "tfidf", "K": 200, "recency": 0.6}),
    "item_knn_bm25": PeerPlan("implicit", "item_knn", {"weighting": "bm25", "K": 200, "recency": 0.6}),
    "item_knn_cosine": PeerPlan("implicit", "item_knn", {"weighting": "cosine", "K": 200, "recency": 0.6}),
    "item_knn_tfidf_no_recency": PeerPlan("implicit", "item_knn", {"weighting": "tfidf", "K": 200, "recency": 1.0}),
    "als": PeerPlan("implicit", "als", {"factors": 256, "alpha": 20.0, "regularization": 10.0}),
    "bpr": PeerPlan("implicit", "bpr", {"factors": 128, "learning_rate": 0.05, "iterations": 200}),
    "cornac_bpr": PeerPlan("cornac", "bpr", {"k": 128, "learning_rate": 0.05, "max_iter": 200}),
    "cornac_vaecf": PeerPlan("cornac", "vaecf", {"k": 64, "autoencoder_structure": [128], "n_epochs": 30, "beta": 0.2}),
    "ease": PeerPlan("rectools", "ease", {"recency": 1.0}),
    "ease_recency": PeerPlan("rectools", "ease", {"regularization": 100.0, "recency": 0.6}),
    # The package as it is; its training step works on padding too, so few epochs fit into a budget.
    "sasrec": PeerPlan("rectools", "sasrec", _SASREC | {"epochs": 20}),
    "esasrec": PeerPlan("rectools", "sasrec", _ESASREC | {"epochs": 45}),
    "bert4rec": PeerPlan("rectools", "bert4rec", {**_SASREC, "epochs": 20}),
    # The same losses and gradients without that work (benchmarks/peers/rectools_peer.py).
    "sasrec_padding_skipped": PeerPlan("rectools", "sasrec", _SASREC | {"epochs": 20, "padding_skipped": True}),
    "esasrec_padding_skipped": PeerPlan("rectools", "sasrec", _ESASREC | {"epochs": 45, "padding_skipped": True}),
}
