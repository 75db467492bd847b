"""Item vectors from events: matrix factorisation against its own objective, and the cache of every kind."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import LowRankEaseR
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.baselines.matrix_factorisation import MatrixFactorisation
from llmrec.baselines.sasrec import SasRecRecommender, SasRecSettings
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError
from llmrec.recommenders.requests import Requests
from tests.baselines.test_by_name import checkerboard

QUICK = SasRecSettings(max_length=8, num_layers=1, epochs=2)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))


def random_events(num_items=15):
    """30 users with six items each; the last item is nobody's."""
    rng = np.random.default_rng(0)
    return Interactions(np.arange(0, 181, 6), rng.integers(0, num_items - 1, 180).astype(np.int32), num_items)


def test_the_withheld_cell_of_a_checkerboard_ranks_first_by_matrix_factorisation():
    data, history, withheld = checkerboard()
    model = MatrixFactorisation(dim=4, regularisation=1.0).fit(data)
    assert model.rank(Requests(Histories.from_lists([history])), 1, exclude_seen=True).items.tolist() == [[withheld]]


def test_every_iteration_lowers_the_objective_of_the_paper():
    data = random_events()
    values = [MatrixFactorisation(dim=4, iterations=number).fit(data).objective(data) for number in (1, 2, 4, 8)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    model = MatrixFactorisation(dim=4, iterations=3).fit(data)
    counts = np.zeros((30, 15))
    np.add.at(counts, (np.repeat(np.arange(30), 6), data.items), 1)
    errors = (counts > 0) - model.user_vectors @ model.item_vectors.T
    sizes = (model.user_vectors**2).sum() + (model.item_vectors**2).sum()
    by_hand = ((1 + model.settings.alpha * counts) * errors**2).sum() + model.settings.regularisation * sizes
    assert model.objective(data) == pytest.approx(by_hand)


def test_no_small_change_of_the_item_vectors_improves_on_a_half_step():
    data = random_events()
    model = MatrixFactorisation(dim=3, iterations=2).fit(data)
    best, vectors = model.objective(data), model.item_vectors.copy()
    rng = np.random.default_rng(1)
    for _ in range(20):
        model.item_vectors = vectors + rng.normal(0, 1e-3, vectors.shape)
        assert model.objective(data) > best


@pytest.mark.parametrize("kind", ["ease_r", "sasrec", "matrix_factorisation"])
def test_embeddings_are_fitted_once_and_an_item_without_an_event_has_none(kind, monkeypatch):
    fits = []
    for model in (LowRankEaseR, SasRecRecommender, MatrixFactorisation):
        fit = model.fit
        monkeypatch.setattr(model, "fit", lambda self, events, fit=fit: fits.append(events) or fit(self, events))
    first, present = collaborative_embeddings(kind, random_events(), 4, sasrec=QUICK)
    again, _ = collaborative_embeddings(kind, random_events(), 4, sasrec=QUICK)
    assert len(fits) == 1 and np.array_equal(first, again)
    assert first.shape == (15, 4) and first.dtype == np.float32
    assert present.tolist() == [True] * 14 + [False] and not first[14].any() and first[:14].any(axis=1).all()
    collaborative_embeddings(kind, random_events(), 3, sasrec=QUICK)
    assert len(fits) == 2


def test_the_seed_matters_where_there_is_one():
    for kind in ("sasrec", "matrix_factorisation"):
        one, two = (collaborative_embeddings(kind, random_events(), 4, seed=seed, sasrec=QUICK)[0] for seed in (0, 1))
        assert not np.allclose(one, two)


def test_an_unknown_kind_and_impossible_settings_are_refused_in_words():
    with pytest.raises(ConfigError, match="not 'svd'"):
        collaborative_embeddings("svd", random_events(), 4)
    with pytest.raises(ConfigError, match="'regularisation' of matrix_factorisation"):
        MatrixFactorisation(dim=4, regularisation=0)
