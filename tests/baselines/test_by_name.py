"""Simple baselines and EASE-R: hand arithmetic, known answers, and no torch on the way. Published values: test_reference.py."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec import memory
from llmrec.baselines import eigenpairs, item_inverse
from llmrec.baselines.baseline import DoesNotFit
from llmrec.baselines.by_name import NAMES, STANDARD, TRAINED, baseline_type, fit_baselines, make_baseline
from llmrec.baselines.ease_r import EaseR, LowRankEaseR, ease_r_embeddings
from llmrec.baselines.markov import Markov
from llmrec.baselines.popularity import Popularity
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError
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
    ease_r = EaseR(regularisation=7, recency=0.5).fit(_interactions(rows, 4))
    assert ease_r.weights == pytest.approx(b, abs=1e-7)
    # History 2 3 2: item 2 is the latest, 3 one step older, the first 2 is the same item and counts once.
    assert ease_r.scores(_requests([2, 3, 2]))[0] == pytest.approx(b[2] + 0.5 * b[3], abs=1e-7)
    assert ease_r.with_recency(1.0).scores(_requests([2, 3, 2]))[0] == pytest.approx(b[2] + b[3], abs=1e-7)
    assert not ease_r.scores(_requests([])).any()


def some_events(num_users, num_items, per_user, seed=0):
    """Users with different items each, and X float64 (users, items)."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(num_items, per_user, replace=False).tolist() for _ in range(num_users)]
    x = np.zeros((num_users, num_items))
    x[np.repeat(np.arange(num_users), per_user), np.concatenate(rows)] = 1
    return _interactions(rows, num_items), x


@pytest.mark.parametrize(("num_users", "per_user", "rounds"), [(3000, 8, False), (900, 4, True)])
def test_ease_r_is_right_beyond_one_block_with_and_without_rounds_of_elimination(num_users, per_user, rounds):
    data, x = some_events(num_users, 1100, per_user)
    gram = x.T @ x + 100 * np.eye(1100)
    eliminated, _, _ = item_inverse._eliminate(sp.csr_array(gram))
    assert (len(eliminated) > 1) is rounds
    p = np.linalg.inv(gram)
    expected = -p / np.diag(p)
    np.fill_diagonal(expected, 0)
    assert np.allclose(EaseR().fit(data).weights, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dim", [5, 39])
def test_embeddings_are_the_best_low_rank_form_of_the_partial_correlations(dim):
    rng = np.random.default_rng(0)
    data = _interactions([rng.choice(39, 6, replace=False).tolist() for _ in range(300)], 40)  # item 39 has no event
    x = np.zeros((300, 40))
    x[np.repeat(np.arange(300), 6), data.items] = 1
    p = np.linalg.inv(x.T @ x + 2 * np.eye(40))
    partial = np.eye(40) - p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    values, vectors = np.linalg.eigh(partial)
    best = (vectors[:, -dim:] * np.maximum(values[-dim:], 0)) @ vectors[:, -dim:].T
    embeddings = ease_r_embeddings(data, dim, regularisation=2)
    assert embeddings.shape == (40, dim) and embeddings.dtype == np.float32
    assert embeddings @ embeddings.T == pytest.approx(best, abs=1e-5)
    assert not embeddings[39].any()
    assert np.array_equal(embeddings, ease_r_embeddings(data, dim, regularisation=2))


def test_without_an_inverse_the_embeddings_are_nearly_those_with_one(monkeypatch):
    data, _ = some_events(1000, 700, 5)
    exact = ease_r_embeddings(data, 8)
    for module in (item_inverse, eigenpairs):
        monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    monkeypatch.setattr(item_inverse, "inverse", None)  # not called
    near = ease_r_embeddings(data, 8)
    assert np.array_equal(near, ease_r_embeddings(data, 8))
    energy = [(vectors.astype(np.float64) ** 2).sum() for vectors in (near, exact)]
    assert energy[0] == pytest.approx(energy[1], rel=0.02)


def test_the_diagonal_of_the_inverse_comes_close_without_one(monkeypatch):
    _, x = some_events(1000, 700, 5)
    seen = sp.csr_array(x)
    exact = item_inverse.inverse_diagonal(seen, 100.0)
    monkeypatch.setattr(item_inverse, "EXACT_UP_TO", 0)
    monkeypatch.setattr(item_inverse, "inverse", None)
    assert item_inverse.inverse_diagonal(seen, 100.0) == pytest.approx(exact, rel=1e-3)
    alone = sp.csr_array(np.eye(300))  # nobody has an item with another one
    assert item_inverse.inverse_diagonal(alone, 100.0) == pytest.approx(np.full(300, 1 / 101), rel=1e-6)


def test_the_largest_eigenpairs_by_filters_are_those_of_the_dense_solution(monkeypatch):
    x = sp.random_array((900, 700), density=0.01, rng=np.random.default_rng(0), format="csr")
    x = (x @ sp.diags_array(np.linspace(0.2, 3, 700))).tocsr()  # some stand out
    diagonal = np.linspace(0.1, 0.2, 700)
    expected, _ = eigenpairs.largest_eigenpairs(x, diagonal, 6)
    monkeypatch.setattr(eigenpairs, "EXACT_UP_TO", 0)
    values, vectors = eigenpairs.largest_eigenpairs(x, diagonal, 6)
    assert values == pytest.approx(expected, rel=1e-4)
    assert vectors.T @ vectors == pytest.approx(np.eye(6), abs=1e-4)


def test_many_items_without_an_event_cost_nothing_and_score_nothing():
    rng = np.random.default_rng(0)
    few, num_items = np.sort(rng.choice(60_000, 30, replace=False)), 60_000
    rows = [rng.choice(few, 6, replace=False).tolist() for _ in range(8)]
    ease_r = EaseR().fit(_interactions(rows, num_items))
    small = EaseR().fit(_interactions([np.searchsorted(few, row).tolist() for row in rows], 30))
    scores = ease_r.scores(_requests(rows[0][:5]))[0]
    expected = small.scores(_requests(np.searchsorted(few, rows[0][:5])))[0]
    assert scores[few] == pytest.approx(expected, abs=1e-7)
    assert not np.delete(scores, few).any()
    met = np.unique(np.concatenate(rows))
    embeddings = LowRankEaseR(dim=32).fit(_interactions(rows, num_items)).item_embeddings()
    assert embeddings.shape == (num_items, 32) and embeddings[met].any(axis=1).all()
    assert not np.delete(embeddings, few, axis=0).any()


def test_two_recencies_share_one_matrix():
    data, _, _ = checkerboard()
    ease_r = EaseR().fit(data)
    plain = ease_r.with_recency(1.0)
    assert plain._weights is ease_r._weights
    assert ease_r.card == {"regularisation": 100.0, "recency": 0.6}
    assert plain.card == {"regularisation": 100.0, "recency": 1.0}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TRAINED])
def test_a_batch_scores_like_its_requests_one_by_one(name):
    rng = np.random.default_rng(0)
    words = Catalog.from_rows(
        [{"item_id": f"i{item}", "title": f"word{item % 7} word{item % 3}"} for item in range(30)]
    )
    recommender = make_baseline(name, catalog=words).fit(
        _interactions([rng.integers(0, 30, 9).tolist() for _ in range(50)], 30)
    )
    requests = _requests(*[rng.integers(0, 30, rng.integers(0, 9)).tolist() for _ in range(20)])
    batch = recommender.scores(requests)
    for row in range(len(requests)):
        alone = recommender.scores(requests.take([row]))[0]
        # A product of two matrices may add in another order than that of a vector and a matrix; EASE-R's are float32.
        np.testing.assert_allclose(batch[row], alone, rtol=1e-5, atol=1e-7)


def test_every_baseline_is_made_by_its_name_of_settings_and_says_them():
    for name in NAMES:
        kind = baseline_type(name)
        settings = kind.Settings()
        assert kind.name == name and kind.from_settings(settings).settings == settings
        assert settings.model_dump(mode="json").items() <= kind.from_settings(settings).card.items()
    assert make_baseline("sasrec", ["dim=8", "seed=3"]).card["seed"] == 3
    assert make_baseline("ease_r", ["recency=1"]).settings == EaseR(recency=1.0).settings


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("ease_r", ["regularisation=0"], "'regularisation'.*greater than 0"),
        ("ease_r", ["lamda=7"], "unknown setting 'lamda'"),
        ("ease_r", ["seed=1"], "unknown setting 'seed'"),  # nothing of it is random
        ("popularity", ["dim=7"], "unknown setting 'dim'"),
        ("ials", ["dim=0"], "'dim'"),
        ("item_knn", ["weights=tfidf"], "'weights'"),
        ("sasrec", ["dim=10", "num_heads=4"], "multiple of num_heads"),
        ("ease", [], "no baseline 'ease'"),
    ],
)
def test_names_and_settings_that_do_not_exist_or_fit_are_refused_in_words(name, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_baseline(name, overrides)


def test_settings_out_of_range_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"'regularisation' of ease_r does not fit: .*greater than 0"):
        EaseR(regularisation=0)
    with pytest.raises(ConfigError, match="'recency' of ease_r"):
        EaseR(recency=1.5)
    with pytest.raises(ConfigError, match="'lambda_' of ease_r"):
        EaseR(lambda_=7)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_allocated_and_left_out_of_a_table(
    tmp_path, monkeypatch, capsys
):
    data, _, _ = checkerboard()
    (tmp_path / "meminfo").write_text("MemAvailable: 1 kB\n")  # 20 items need 1,600 bytes
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    with pytest.raises(DoesNotFit, match=r"EASE-R on 20 items with events needs .* are free"):
        EaseR().fit(data)
    assert [baseline.name for baseline in fit_baselines(data)] == ["popularity", "markov"]
    assert capsys.readouterr().err.startswith("ease_r is left out: EASE-R on 20 items")


@pytest.mark.parametrize(
    "module", ["llmrec.baselines.by_name", "llmrec.recommenders.hybrid", "llmrec.evaluation.report"]
)
def test_baselines_and_their_evaluation_import_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fitting_all_baselines_together_equals_fitting_each():
    rng = np.random.default_rng(0)
    interactions = Interactions(np.arange(0, 241, 6), rng.integers(0, 30, 240).astype(np.int32), 30)
    requests = Requests(interactions.histories)
    together = fit_baselines(interactions)
    assert [baseline.name for baseline in together] == [kind.name for kind in STANDARD]
    for baseline in together:
        alone = make_baseline(baseline.name).fit(interactions)
        np.testing.assert_allclose(baseline.scores(requests), alone.scores(requests), atol=1e-10)
