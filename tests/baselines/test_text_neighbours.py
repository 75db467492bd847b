"""Text neighbours: cosines by hand, what is looked at of a history, and that no event is learned from."""

import numpy as np
import pytest

from llmrec.baselines.by_name import make_baseline
from llmrec.baselines.text_neighbours import TextNeighbours
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, DataError
from llmrec.recommenders.requests import Requests

VECTORS = np.array([[2.0, 0], [0, 3], [3, 4], [0, 0]])  # cosines: 0 and 2 .6, 1 and 2 .8; item 3 has no words
EVENTS = Interactions(np.array([0, 2]), np.array([0, 1], np.int32), 4)


def scores_of(history, **settings):
    fitted = TextNeighbours(vectors=VECTORS, **settings).fit(EVENTS)
    return fitted.scores(Requests(Histories.from_lists([history])))[0]


def test_scores_are_decayed_cosines_and_an_item_is_no_neighbour_of_its_own():
    assert scores_of([0]) == pytest.approx([0, 0, 0.6, 0], abs=1e-6)
    assert scores_of([0, 1], recency=0.5) == pytest.approx([0, 0, 0.8 + 0.5 * 0.6, 0], abs=1e-6)
    assert scores_of([2, 1], recency=0.5) == pytest.approx([0.3, 0.4, 0.8, 0], abs=1e-6)
    assert scores_of([0, 1, 0], recency=0.5) == pytest.approx(
        [0, 0, 0.6 + 0.5 * 0.8, 0], abs=1e-6
    )  # once, at its latest
    assert scores_of([3]) == pytest.approx([0] * 4) == scores_of([])


def test_only_the_latest_items_are_looked_at():
    assert scores_of([0, 1], latest=1, recency=0.5) == pytest.approx(scores_of([1]))
    assert scores_of([0, 1, 3], latest=2, recency=1.0) == pytest.approx(scores_of([1]), abs=1e-6)


def test_no_event_is_learned_from():
    requests = Requests(Histories.from_lists([[0, 2], [1]]))
    other = Interactions(np.array([0, 3]), np.array([3, 2, 2], np.int32), 4)
    found = [TextNeighbours(vectors=VECTORS).fit(events).scores(requests) for events in (EVENTS, other)]
    assert np.array_equal(*found)


def test_words_shared_make_neighbours_and_the_catalogue_is_needed():
    rows = ["red lip stick", "blue nail polish", "red lip gloss", "shampoo"]
    catalog = Catalog.from_rows([{"item_id": str(item), "title": title} for item, title in enumerate(rows)])
    ranked = make_baseline("text_neighbours", ["recency=1"], catalog).fit(EVENTS)
    assert ranked.rank(Requests(Histories.from_lists([[0]])), 1, exclude_seen=True).items[0, 0] == 2
    with pytest.raises(ConfigError, match="give their vectors"):
        make_baseline("text_neighbours").fit(EVENTS)
    with pytest.raises(DataError, match="4 vectors, but 2 items"):
        TextNeighbours(vectors=VECTORS).fit(Interactions(np.array([0, 1]), np.array([0], np.int32), 2))
