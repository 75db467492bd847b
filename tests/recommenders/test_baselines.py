"""The three counters: hand arithmetic, known answers, and no torch on the way. Published values: test_reference.py."""

import subprocess
import sys

import numpy as np
import pytest

from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, ModelError
from llmrec.recommenders import baselines
from llmrec.recommenders.baselines import BASELINES, EaseR, Markov, Popularity, fit_baselines
from llmrec.recommenders.requests import Requests


def _interactions(rows, num_items):
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, num_items)


def _requests(*histories):
    return Requests(Histories.from_lists([list(history) for history in histories]))


def checkerboard(num_users=20, num_items=20):
    """Even users like even items, odd users odd ones; user 0's last item is withheld."""
    rows = [[item for item in range(num_items) if item % 2 == user % 2] for user in range(num_users)]
    withheld = rows[0].pop()
    return _interactions(rows, num_items), rows[0], withheld


def test_the_withheld_cell_of_a_checkerboard_ranks_first():
    data, history, withheld = checkerboard()
    for recency in (1.0, 0.6):
        ease_r = EaseR(recency=recency).fit(data)
        assert ease_r.rank(_requests(history), 1, exclude_seen=True).items.tolist() == [[withheld]]


def test_popularity_counts_events_and_repeats():
    popularity = Popularity().fit(_interactions([[0, 1, 1], [1, 2]], 4))
    assert popularity.scores(_requests([0], [])).tolist() == [[1, 3, 1, 0], [1, 3, 1, 0]]


def test_markov_counts_adjacent_pairs_within_users_only():
    # Pairs: 0>1 twice, 1>0 once, 2>3 once; never 1>2, which would cross from one user to the next.
    markov = Markov().fit(_interactions([[0, 1, 0, 1], [2, 3]], 4))
    scores = markov.scores(_requests([3, 0], [1], [3], []))
    popularity = 1e-6 * np.array([2, 2, 1, 1])
    assert scores == pytest.approx(np.array([[0, 2, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]) + popularity)


def test_ease_r_equals_its_closed_form():
    rows = [[0, 1, 2], [1, 2, 2], [0, 3], [3, 1, 0, 2]]
    x = np.zeros((4, 4))
    for user, items in enumerate(rows):
        x[user, items] = 1
    p = np.linalg.inv(x.T @ x + 7 * np.eye(4))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    ease_r = EaseR(lambda_=7, recency=0.5).fit(_interactions(rows, 4))
    assert ease_r.weights == pytest.approx(b)
    # History 2 3 2: item 2 is the latest, 3 one step older, the first 2 is the same item and counts once.
    assert ease_r.scores(_requests([2, 3, 2]))[0] == pytest.approx(b[2] + 0.5 * b[3])
    assert ease_r.with_recency(1.0).scores(_requests([2, 3, 2]))[0] == pytest.approx(b[2] + b[3])
    assert not ease_r.scores(_requests([])).any()


def test_ease_r_is_right_beyond_one_strip_of_its_in_place_inverse():
    rng = np.random.default_rng(0)
    rows = [rng.choice(1100, 8, replace=False).tolist() for _ in range(3000)]
    ease_r = EaseR().fit(_interactions(rows, 1100))
    x = np.zeros((3000, 1100))
    x[np.repeat(np.arange(3000), 8), np.concatenate(rows)] = 1
    p = np.linalg.inv(x.T @ x + 100 * np.eye(1100))
    expected = -p / np.diag(p)
    np.fill_diagonal(expected, 0)
    assert np.allclose(ease_r.weights, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [5, 40])  # by iteration, and by the dense way of small catalogues
def test_factors_are_the_best_low_rank_form_of_the_partial_correlations(dim):
    rng = np.random.default_rng(0)
    data = _interactions([rng.choice(39, 6, replace=False).tolist() for _ in range(300)], 40)  # item 39 has no event
    ease_r = EaseR(lambda_=2).fit(data)
    x = np.zeros((300, 40))
    x[np.repeat(np.arange(300), 6), data.items] = 1
    p = np.linalg.inv(x.T @ x + 2 * np.eye(40))
    partial = np.eye(40) - p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    values, vectors = np.linalg.eigh(partial)
    best = (vectors[:, -dim:] * np.maximum(values[-dim:], 0)) @ vectors[:, -dim:].T
    factors = ease_r.factors(dim)
    assert factors.shape == (40, dim) and factors.dtype == np.float32
    assert factors @ factors.T == pytest.approx(best, abs=1e-5)
    assert np.abs(factors[39]).max() < 1e-5
    assert np.array_equal(factors, ease_r.factors(dim))


def test_factors_beyond_the_number_of_items_are_refused():
    data, _, _ = checkerboard()
    with pytest.raises(ConfigError, match="1 to 20 dimensions"):
        EaseR().fit(data).factors(21)


def test_two_recencies_share_one_matrix():
    data, _, _ = checkerboard()
    ease_r = EaseR().fit(data)
    plain = ease_r.with_recency(1.0)
    assert plain.weights is ease_r.weights
    assert (ease_r.card, plain.card) == ({"lambda": 100.0, "recency": 0.6}, {"lambda": 100.0, "recency": 1.0})


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_scores_like_its_requests_one_by_one(name):
    rng = np.random.default_rng(0)
    recommender = BASELINES[name]().fit(_interactions([rng.integers(0, 30, 9).tolist() for _ in range(50)], 30))
    requests = _requests(*[rng.integers(0, 30, rng.integers(0, 9)).tolist() for _ in range(20)])
    batch = recommender.scores(requests)
    for row in range(len(requests)):
        alone = recommender.scores(requests.take([row]))[0]
        # A product of two matrices may add in another order than that of a vector and a matrix.
        np.testing.assert_allclose(batch[row], alone, rtol=1e-12, atol=1e-15)


def test_settings_out_of_range_are_refused_in_words():
    with pytest.raises(ConfigError, match="lambda of EASE-R should be above 0"):
        EaseR(lambda_=0)
    with pytest.raises(ConfigError, match="recency of EASE-R"):
        EaseR(recency=1.5)


def test_a_catalogue_beyond_the_memory_is_refused_before_it_is_allocated():
    with pytest.raises(ModelError, match="EASE-R on 50000000 items needs"):
        baselines._check_memory(50_000_000)


@pytest.mark.parametrize(
    "module", ["llmrec.recommenders.baselines", "llmrec.recommenders.hybrid", "llmrec.evaluation.report"]
)
def test_counters_and_their_evaluation_import_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fitting_all_baselines_together_equals_fitting_each():
    rng = np.random.default_rng(0)
    interactions = Interactions(np.arange(0, 241, 6), rng.integers(0, 30, 240).astype(np.int32), 30)
    requests = Requests(interactions.histories)
    together = fit_baselines(interactions)
    assert [baseline.name for baseline in together] == list(BASELINES)
    for baseline in together:
        alone = BASELINES[baseline.name]().fit(interactions)
        np.testing.assert_allclose(baseline.scores(requests), alone.scores(requests), atol=1e-10)
