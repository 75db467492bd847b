"""Item-kNN: weights by hand, neighbours and their ties, recency, and what it refuses."""

import numpy as np
import pytest

from llmrec import memory
from llmrec.baselines import item_knn
from llmrec.baselines.baseline import DoesNotFit
from llmrec.baselines.item_knn import ItemKnn
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError
from llmrec.recommenders.requests import Requests
from tests.baselines.test_by_name import checkerboard

# Three users over items 0 to 3; user 1 met item 1 twice. Nobody has met item 3.
ROWS = [[0, 1], [1, 1, 2], [0, 2]]


def events(rows, num_items=4):
    histories = Histories.from_lists(rows)
    return Interactions(histories.indptr, histories.items, num_items)


def requests(*histories):
    return Requests(Histories.from_lists([list(history) for history in histories]))


def fitted(rows=ROWS, **settings):
    return ItemKnn(**settings).fit(events(rows))


@pytest.mark.parametrize("weights", ["tf_idf", "bm25", "cosine"])
def test_the_withheld_cell_of_a_checkerboard_ranks_first(weights):
    data, history, withheld = checkerboard()
    model = ItemKnn(weights=weights, recency=1.0).fit(data)
    assert model.rank(requests(history), 1, exclude_seen=True).items.tolist() == [[withheld]]


def test_cosines_by_hand():
    # rows over users: item 0 (1, 0, 1), item 1 (1, 2, 0), item 2 (0, 1, 1)
    similarity = fitted(weights="cosine").similarity.toarray()
    expected = np.zeros((4, 4))
    expected[0, 1] = 1 / (2**0.5 * 5**0.5)
    expected[0, 2] = 1 / 2
    expected[1, 2] = 2 / (5**0.5 * 2**0.5)
    assert similarity == pytest.approx(expected + expected.T)


def test_tf_idf_by_hand():
    # every user has met two of four items: idf = ln 4 - ln 3, the same for all, so that only the square root of two events counts
    similarity = fitted(weights="tf_idf").similarity.toarray()
    assert similarity[0, 1] == pytest.approx(1 / (2**0.5 * 3**0.5))
    assert similarity[1, 2] == pytest.approx(2**0.5 / (3**0.5 * 2**0.5))
    # a user with three of four items weighs ln 4 - ln 4 = 0
    assert not fitted([[0, 1, 2]], weights="tf_idf").similarity.nnz
    # with users of two items and of one: item 0 (a, 0), item 1 (a, b), a = ln 4/3, b = ln 4/2
    a, b = np.log(4 / 3), np.log(4 / 2)
    assert fitted([[0, 1], [1]], weights="tf_idf").similarity[0, 1] == pytest.approx(a / np.hypot(a, b))


def test_bm25_by_hand():
    # events: item 0 two, 1 three, 2 two, 3 none; mean 7/4
    idf, k1, b, mean = np.log(4 / 3), 1.2, 0.75, 7 / 4
    weight = lambda n, size: n * (k1 + 1) / (k1 * (1 - b + b * size / mean) + n) * idf  # noqa: E731
    similarity = fitted(weights="bm25").similarity.toarray()
    assert similarity[0, 1] == pytest.approx(weight(1, 2) * weight(1, 3))
    assert similarity[1, 2] == pytest.approx(weight(2, 3) * weight(1, 2))


def test_only_the_nearest_neighbours_count_and_of_equal_ones_those_of_lower_number():
    rows = [[0, 1], [0, 2], [0, 3]]  # 1, 2 and 3 are equally near to 0
    assert fitted(rows, weights="cosine", neighbours=2).similarity[[0]].indices.tolist() == [1, 2]
    assert fitted(rows, weights="cosine", neighbours=3).similarity[[0]].indices.tolist() == [1, 2, 3]


def test_older_events_lose_weight_and_a_repeat_counts_once_at_its_latest_place():
    model = fitted(weights="cosine", recency=0.5)
    similarity = model.similarity.toarray()
    assert model.scores(requests([0, 2, 1, 2]))[0] == pytest.approx(
        similarity[2] + 0.5 * similarity[1] + 0.25 * similarity[0]
    )
    assert not model.scores(requests([])).any()


def test_a_later_event_changes_no_score_before_it():
    model = fitted()
    assert np.array_equal(model.scores(requests([0, 1]))[0], model.scores(requests([0, 1], [0, 1, 2]))[0])


def test_strips_of_the_product_give_what_the_whole_gives(monkeypatch):
    rng = np.random.default_rng(0)
    data = events([rng.integers(0, 30, 6).tolist() for _ in range(40)], 31)
    whole = ItemKnn(neighbours=5).fit(data).similarity.toarray()
    monkeypatch.setattr(item_knn, "_AT_ONCE", 7)
    assert ItemKnn(neighbours=5).fit(data).similarity.toarray() == pytest.approx(whole)
    assert (np.count_nonzero(whole, axis=1) <= 5).all() and not whole.diagonal().any() and not whole[30].any()


def test_too_many_neighbours_are_refused_before_they_are_computed(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable: 0 kB\n")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    with pytest.raises(DoesNotFit, match=r"item-kNN on 4 items needs .* for 9 neighbours, .*Set fewer neighbours"):
        fitted()


def test_settings_that_cannot_be_are_refused_in_words():
    with pytest.raises(ConfigError, match="'neighbours' of item_knn"):
        ItemKnn(neighbours=0)
