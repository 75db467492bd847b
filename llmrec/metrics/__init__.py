"""Metrics, in numpy only: exact under ties, and each with its source.

Every ranking metric starts from two counts per target: how many other items beat the target (`greater`) and how many
tie with it (`equal`). The value is the expectation over a uniformly random order of the tied items, so a scorer that
gives every item one score gets recall@K = K / num_items and cannot win by its sorting routine (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of tied scores", ECIR 2008).
"""

from llmrec.metrics.accuracy import ACCURACY, mrr, ndcg, recall
from llmrec.metrics.beyond_accuracy import coverage, popularity_bias, popularity_percentiles
from llmrec.metrics.bootstrap import (
    auc_resamples,
    bootstrap_interval,
    bootstrap_means,
    gauc_resamples,
    resampled_counts,
)
from llmrec.metrics.clicks import UserAUC, auc, ctr_metrics, gauc, logloss, user_auc
from llmrec.metrics.ranks import ranks_from_ranking, ranks_from_scores

__all__ = [
    "ACCURACY",
    "UserAUC",
    "auc",
    "auc_resamples",
    "bootstrap_interval",
    "bootstrap_means",
    "coverage",
    "ctr_metrics",
    "gauc",
    "gauc_resamples",
    "logloss",
    "mrr",
    "ndcg",
    "popularity_bias",
    "popularity_percentiles",
    "ranks_from_ranking",
    "ranks_from_scores",
    "recall",
    "resampled_counts",
    "user_auc",
]
