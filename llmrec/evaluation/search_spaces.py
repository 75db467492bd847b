"""Which settings of each baseline and CTR model a random search tries: small spaces around the defaults, which are always tried first.

Values follow what the papers of the models search, and what is known to matter on sets of this size. A setting that is not listed keeps
its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Space = Mapping[str, tuple[Any, ...]]  # setting -> the values that are tried

_RECENCY = (0.4, 0.6, 0.8, 1.0)
_SEQUENCE: Space = {
    "dim": (64, 128),
    "num_layers": (1, 2),
    "dropout": (0.1, 0.2, 0.3, 0.5),
    "lr": (0.0005, 0.001, 0.002, 0.003),
    "batch_size": (64, 128, 256),
}
_CTR: Space = {
    "dim": (8, 16, 32),
    "hidden": ((32,), (64,), (128, 64)),
    "dropout": (0.0, 0.2, 0.4),
    "id_dropout": (0.05, 0.2),
    "feature_length": (1.0, 3.0, 10.0),
    "lr": (0.0003, 0.001, 0.003),
    "weight_decay": (0.0, 0.01, 0.1),
    "embedding_decay": (0.0, 0.01, 0.1, 1.0),
    "batch_size": (256, 1024),
}
_DEEP_CTR: Space = {**_CTR, "num_layers": (1, 2, 3)}

SPACES: dict[str, Space] = {
    "popularity": {},
    "markov": {},
    "ease_r": {"regularisation": (10.0, 30.0, 100.0, 300.0, 1000.0), "recency": _RECENCY},
    "low_rank_ease_r": {"dim": (32, 64, 128, 256), "regularisation": (30.0, 100.0, 300.0), "recency": _RECENCY},
    "item_knn": {"weights": ("tf_idf", "bm25", "cosine"), "neighbours": (50, 100, 200, 400), "recency": _RECENCY},
    "text_neighbours": {"recency": (0.2, *_RECENCY), "latest": (1, 3, 10, 50)},
    # Rendle et al., "Revisiting the performance of iALS on item recommendation benchmarks", RecSys 2022: wide vectors, the weight of
    # what was not met and the regularisation searched together, frequency-scaled regularisation
    "ials": {
        "dim": (64, 128, 256),
        "alpha": (5.0, 10.0, 20.0, 50.0, 100.0),
        "regularisation": (1.0, 3.0, 10.0, 30.0, 100.0),
        "frequency_exponent": (0.0, 0.5, 1.0),
    },
    "sasrec": _SEQUENCE,
    "gru4rec": {**_SEQUENCE, "hidden_dim": (64, 128, 256)},
    "bert4rec": {**_SEQUENCE, "mask_probability": (0.1, 0.2, 0.4)},
    "item_mean": {"item_shrink": (1.0, 3.0, 10.0, 30.0)},
    "user_item_mean": {"item_shrink": (1.0, 3.0, 10.0, 30.0), "user_shrink": (5.0, 10.0, 20.0, 50.0)},
    "dnn": _CTR,
    "din": _CTR,
    "dcn_v2": _DEEP_CTR,
    "gdcn": _DEEP_CTR,
    "autoint": _DEEP_CTR,
}
