"""Metrics, in numpy only: exact under ties, and each with its source.

Every ranking metric starts from two counts per target: how many other items beat the target (`greater`) and how many
tie with it (`equal`). The value is the expectation over a uniformly random order of the tied items, so a scorer that
gives every item one score gets recall@K = K / num_items and cannot win by its sorting routine (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of tied scores", ECIR 2008).
"""

from llmrec.metrics.accuracy import (
    ACCURACY,
    f1,
    mrr,
    ndcg,
    precision,
    recall,
)
from llmrec.metrics.beyond_accuracy import (
    coverage,
    gini,
    intra_list_diversity,
    novelty,
    popularity_bias,
    popularity_percentiles,
    self_information,
)
from llmrec.metrics.bootstrap import (
    auc_resamples,
    bootstrap_interval,
    bootstrap_means,
    gauc_resamples,
    ratio_resamples,
    resampled_counts,
)
from llmrec.metrics.by_user import (
    RankedRows,
    ranked_rows,
    user_average_precision,
    user_mrr,
    user_ndcg,
    user_recall,
)
from llmrec.metrics.calibration import (
    Reliability,
    brier,
    ece,
    reliability,
)
from llmrec.metrics.clicks import (
    UserAUC,
    auc,
    binary_accuracy,
    binary_f1,
    ctr_metrics,
    gauc,
    logloss,
    row_logloss,
    said_liked,
    user_auc,
)
from llmrec.metrics.ranks import (
    ranks_from_ranking,
    ranks_from_scores,
)

__all__ = [
    "ACCURACY",
    "RankedRows",
    "Reliability",
    "UserAUC",
    "auc",
    "auc_resamples",
    "binary_accuracy",
    "binary_f1",
    "bootstrap_interval",
    "bootstrap_means",
    "brier",
    "coverage",
    "ctr_metrics",
    "ece",
    "f1",
    "gauc",
    "gauc_resamples",
    "gini",
    "intra_list_diversity",
    "logloss",
    "mrr",
    "ndcg",
    "novelty",
    "popularity_bias",
    "popularity_percentiles",
    "precision",
    "ranked_rows",
    "ranks_from_ranking",
    "ranks_from_scores",
    "ratio_resamples",
    "recall",
    "reliability",
    "resampled_counts",
    "row_logloss",
    "said_liked",
    "self_information",
    "user_auc",
    "user_average_precision",
    "user_mrr",
    "user_ndcg",
    "user_recall",
]
