"""Item vectors from events, of every kind, and their cache."""

import numpy as np
import pytest

from llmrec.baselines.ease_r import LowRankEaseR
from llmrec.baselines.ials import Ials
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.baselines.sasrec import SasRecRecommender
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
from llmrec.sequential.settings import SasRecSettings

QUICK = SasRecSettings(max_length=8, num_layers=1, epochs=2)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))


def random_events(num_items=15):
    """30 users with six items each; the last item is nobody's."""
    rng = np.random.default_rng(0)
    return Interactions(np.arange(0, 181, 6), rng.integers(0, num_items - 1, 180).astype(np.int32), num_items)


@pytest.mark.parametrize("kind", ["ease_r", "sasrec", "matrix_factorisation"])
def test_embeddings_are_fitted_once_and_an_item_without_an_event_has_none(kind, monkeypatch):
    fits = []
    for model in (LowRankEaseR, SasRecRecommender, Ials):
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


def test_an_unknown_kind_is_refused_in_words():
    with pytest.raises(ConfigError, match="not 'svd'"):
        collaborative_embeddings("svd", random_events(), 4)
