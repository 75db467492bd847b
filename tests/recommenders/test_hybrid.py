"""The hybrid: its two ends, models that only list, and the weight found on validation instances of real data."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.markov import Markov
from llmrec.data.interactions import Histories, Interactions
from llmrec.data.prepare import prepare
from llmrec.data.splits import leave_one_out
from llmrec.errors import ConfigError
from llmrec.metrics import ndcg, ranks_from_ranking, ranks_from_scores
from llmrec.recommenders.hybrid import Hybrid
from llmrec.recommenders.requests import Ranking, Requests


class Lists:
    """A generative model's shape: it returns lists and nothing else."""

    name = "lists"

    def __init__(self, num_items, items, scores):
        self.num_items, self.items, self.listed_scores, self.card = num_items, items, scores, {}

    def rank(self, requests, k, *, exclude_seen, candidates=None):
        items = np.full((len(requests), k), -1, dtype=np.int32)
        scores = np.full((len(requests), k), -np.inf, dtype=np.float32)
        items[:, : len(self.items)], scores[:, : len(self.items)] = self.items, self.listed_scores
        return Ranking(items, scores)

    def score(self, requests, candidates):
        raise NotImplementedError


@pytest.fixture(scope="module")
def data():
    """400 users who walk around a ring of 60 items, with detours."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 1, 1, 2, 5, -3], (400, 12))
    items = (rng.integers(0, 60, (400, 1)) + np.cumsum(steps, axis=1)) % 60
    return Interactions(np.arange(0, 4801, 12), items.ravel(), 60)


@pytest.fixture(scope="module")
def parts(data):
    split = leave_one_out(data)
    return split, Markov().fit(split.train), EaseR(regularisation=5).fit(split.train)


def test_weight_0_ranks_as_ease_r_does(parts):
    split, markov, ease_r = parts
    requests = Requests.from_instances(split.test)
    expected = ease_r.rank(requests, 10, exclude_seen=True).items
    assert np.array_equal(Hybrid(markov, ease_r, weight=0).rank(requests, 10, exclude_seen=True).items, expected)


def test_weight_1_keeps_the_models_list_to_its_last_item(parts):
    split, markov, ease_r = parts
    requests = Requests.from_instances(split.test)
    expected = markov.rank(requests, 20, exclude_seen=True).items
    hybrid = Hybrid(markov, ease_r, weight=1, num_listed=20)
    assert np.array_equal(hybrid.rank(requests, 20, exclude_seen=True).items, expected)


def test_items_outside_the_models_list_share_a_floor_one_step_below_it(parts):
    _, _, ease_r = parts
    model = Lists(60, items=[7, 3, 9], scores=[-1.0, -2.5, -3.0])
    scores = Hybrid(model, ease_r, weight=1).scores(Requests(Histories.from_lists([[0]])))[0]
    assert np.argsort(-scores, kind="stable")[:3].tolist() == [7, 3, 9]
    assert np.ptp(np.delete(scores, [7, 3, 9])) == 0
    # The list falls by 2 over two steps, so unlisted items are at -4; standardising keeps ratios of differences.
    assert (scores[9] - scores[0]) / (scores[7] - scores[3]) == pytest.approx(1.0 / 1.5)


def test_an_empty_list_leaves_ease_r_in_charge(parts):
    _, _, ease_r = parts
    requests = Requests(Histories.from_lists([[0, 5]]))
    hybrid = Hybrid(Lists(60, items=[], scores=[]), ease_r, weight=0.9)
    expected = ease_r.rank(requests, 10, exclude_seen=True).items
    assert np.array_equal(hybrid.rank(requests, 10, exclude_seen=True).items, expected)


def test_seen_items_and_other_candidates_never_come_out(parts):
    split, markov, ease_r = parts
    requests, candidates = Requests.from_instances(split.test), np.arange(0, 60, 3)
    items = Hybrid(markov, ease_r).rank(requests, 20, exclude_seen=True, candidates=candidates).items
    assert np.isin(items[items >= 0], candidates).all()
    for row in range(len(requests)):
        assert not np.isin(requests.histories[row], items[row]).any()
        expected = min(20, len(np.setdiff1d(candidates, requests.histories[row])))
        assert (items[row] >= 0).sum() == expected


def test_the_weight_is_the_best_on_validation_and_does_not_depend_on_batches(parts):
    split, markov, ease_r = parts
    hybrid = Hybrid(markov, ease_r).fit_weight(split.valid)
    again = Hybrid(markov, ease_r).fit_weight(split.valid, batches=np.array_split(np.arange(len(split.valid)), 7))
    assert hybrid.weight == again.weight
    assert list(hybrid.validation) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert again.validation == pytest.approx(hybrid.validation)
    assert hybrid.validation[hybrid.weight] == max(hybrid.validation.values())


@pytest.mark.slow
def test_on_movielens_two_baselines_together_are_above_each_alone_on_validation(bench_data, tmp_path):
    source = bench_data / "ml100k_posters"
    data = prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", tmp_path / "data")
    split = leave_one_out(data.interactions)
    hybrid = Hybrid(Markov().fit(split.train), EaseR().fit(split.train)).fit_weight(split.valid)
    assert hybrid.validation[hybrid.weight] > max(hybrid.validation[0.0], hybrid.validation[1.0]) + 0.005


def test_the_validation_curve_is_the_ndcg_of_that_weight(parts):
    split, markov, ease_r = parts
    curve = Hybrid(markov, ease_r).fit_weight(split.valid, grid=(0.3,)).validation
    requests = Requests.from_instances(split.valid)
    scores, allowed = Hybrid(markov, ease_r, weight=0.3).allowed_scores(requests, exclude_seen=True)
    assert curve[0.3] == pytest.approx(ndcg(*ranks_from_scores(scores, split.valid.targets, allowed), 10).mean())
    ranking = Hybrid(markov, ease_r, weight=0.3).rank(requests, 60, exclude_seen=True)
    assert curve[0.3] == pytest.approx(
        ndcg(*ranks_from_ranking(ranking.items, ranking.scores, split.valid.targets), 10).mean()
    )


def test_parts_of_two_catalogues_and_weights_out_of_range_are_refused_in_words(parts):
    _, markov, ease_r = parts
    with pytest.raises(ConfigError, match="'lists' knows 61 items and EASE-R 60"):
        Hybrid(Lists(61, [], []), ease_r)
    with pytest.raises(ConfigError, match=r"from 0 \(EASE-R alone\) to 1"):
        Hybrid(markov, ease_r, weight=1.2)
