"""Baselines in folders: what is read scores as what was written, and damage is said."""

import json

import numpy as np
import pytest

from llmrec.baselines.by_name import make_baseline
from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.kept import BASELINE, load_baseline, save_baseline
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Interactions
from llmrec.errors import ArtifactError, ModelError
from llmrec.recommenders.requests import Requests

CATALOG = Catalog.from_rows([{"item_id": f"i{item}", "title": f"word{item % 7} word{item % 3}"} for item in range(30)])


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(0)
    return Interactions(np.arange(0, 541, 9), rng.integers(0, 28, 540).astype(np.int32), 30)  # 28 and 29 have none


def fitted(name, events):
    made = make_baseline(name, catalog=CATALOG).fitted(events)
    return made.thinned(5) if isinstance(made, EaseR) else made


@pytest.mark.parametrize("name", ["popularity", "markov", "ease_r", "item_knn", "text_neighbours"])
def test_what_was_kept_scores_as_before(name, events, tmp_path):
    made, requests = fitted(name, events), Requests(events.histories)
    save_baseline(tmp_path / "part", made)
    read = load_baseline(tmp_path / "part")
    assert np.array_equal(read.scores(requests), made.scores(requests))
    assert read.card == made.card and read.fit_cpu_minutes == made.fit_cpu_minutes > 0


def test_what_cannot_be_kept_is_refused_before_anything_is_written(events, tmp_path):
    for made in (EaseR().fit(events), make_baseline("ials", ["dim=4"]).fit(events)):
        with pytest.raises(ModelError, match=r"kept in a folder|keep a thinned one"):
            save_baseline(tmp_path / "part", made)
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_is_refused_in_a_sentence(events, tmp_path):
    save_baseline(tmp_path / "part", fitted("markov", events))
    told = json.loads((tmp_path / "part" / BASELINE).read_text())
    for damage in ({"num_items": 7}, {"name": "nobody"}, {"name": "ease_r"}, {"settings": {"x": 1}}):
        (tmp_path / "part" / BASELINE).write_text(json.dumps(told | damage))
        with pytest.raises(ArtifactError, match="is damaged"):
            load_baseline(tmp_path / "part")
    (tmp_path / "part" / BASELINE).write_text(json.dumps(told | {"format_version": 9}))
    with pytest.raises(ArtifactError, match=r"format version 1 .* found 9"):
        load_baseline(tmp_path / "part")


def test_a_thinned_ease_r_keeps_the_largest_weights_of_each_item_and_all_of_them_are_all(events):
    whole, requests = EaseR().fit(events), Requests(events.histories)
    thin = whole.thinned(3)
    kept = (thin.weights != 0).sum(axis=1)
    assert kept.tolist() == [3] * 28 + [0, 0] and "neighbours" not in whole.card and thin.card["neighbours"] == 3
    for item in range(28):
        least = np.abs(whole.weights[item][thin.weights[item] != 0]).min()
        assert least >= np.abs(whole.weights[item][thin.weights[item] == 0]).max()
    assert whole.thinned(100).scores(requests) == pytest.approx(whole.scores(requests), abs=1e-6)
