"""Metrics against scipy and torch on random rows with many ties (scikit-learn: benchmarks/metric_peers.py)."""

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch

from llmrec import metrics


def random_rows(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(300) < 0.4
    return labels, np.clip(np.round(rng.normal(labels * 0.3 + 0.4, 0.2), 1), 0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_mann_whitney_statistic_and_losses_are_torchs(seed):
    labels, scores = random_rows(seed)
    won = scipy.stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert metrics.auc(labels, scores) == pytest.approx(won / (labels.sum() * (~labels).sum()), abs=1e-12)
    kept = np.clip(scores, 1e-7, 1 - 1e-7)
    pair = torch.from_numpy(kept), torch.from_numpy(labels.astype(float))
    assert metrics.logloss(labels, scores) == pytest.approx(float(torch.nn.functional.binary_cross_entropy(*pair)))
    assert metrics.brier(labels, kept) == pytest.approx(float(torch.nn.functional.mse_loss(*pair)))


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_and_expected_ranks_are_scipys_average_ranks(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, 60)
    ranks = scipy.stats.rankdata(counts, method="average")
    assert metrics.popularity_percentiles(counts) == pytest.approx((ranks - 0.5) / 60)
    scores, targets = rng.integers(0, 6, (20, 60)).astype(float), rng.integers(0, 60, 20)
    greater, equal = metrics.ranks_from_scores(scores, targets)
    average = scipy.stats.rankdata(-scores, method="average", axis=1)[np.arange(20), targets]
    assert greater + equal / 2 + 1 == pytest.approx(average)


def test_diversity_is_the_mean_of_scipys_cosine_distances():
    rng = np.random.default_rng(0)
    vectors, items = rng.normal(size=(40, 5)), np.array([rng.permutation(40)[:7] for _ in range(10)])
    expected = [scipy.spatial.distance.pdist(vectors[row], "cosine").mean() for row in items]
    assert metrics.intra_list_diversity(items, vectors) == pytest.approx(expected)
