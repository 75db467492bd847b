"""The bench of new items: who is held out and asked, and its arithmetic."""

import gzip
import json
import math

import cold_items
import numpy as np
import pytest
from held_items import hold_out, who_is_asked

from llmrec.data.interactions import Histories
from llmrec.recommenders.requests import DenseRecommender, Requests

NUM_ITEMS, NUM_USERS = 40, 60


class ByTable(DenseRecommender):
    """Scores that are given: float32 (U, I)."""

    name, card = "by_table", {}

    def __init__(self, table):
        self.table, self.num_items = table, table.shape[1]

    def scores(self, requests):
        return self.table


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Forty items, sixty users of five to nine events."""
    folder, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    with gzip.open(folder / "items.jsonl.gz", "wt") as file:
        for item in range(NUM_ITEMS):
            file.write(json.dumps({"item_id": f"i{item}", "title": f"a thing called {item}"}) + "\n")
    with gzip.open(folder / "interactions.tsv.gz", "wt") as file:
        file.write("user_id\titem_id\tstep\n")
        for user in range(NUM_USERS):
            for step, item in enumerate(rng.permutation(NUM_ITEMS)[: rng.integers(5, 10)]):
                file.write(f"u{user}\ti{item}\t{step}\n")
    return folder


@pytest.mark.slow
def test_held_items_leave_the_catalogue_and_all_histories_and_come_back_once(source, tmp_path):
    draw = tmp_path / "draw"
    hold_out(source, draw, 0.2, 0)
    asked = who_is_asked(draw, 10_000, 0)
    names = asked.data.catalog.item_ids
    assert asked.new_items.tolist() == list(range(32, 40)), "a fifth of the items, after the old ones"
    assert asked.old_data.catalog.item_ids == names[:32]
    assert len(asked.of_new) == len(asked.of_old) > 0
    for instances, targets_are_new in ((asked.of_new, True), (asked.of_old, False)):
        assert ((instances.targets >= 32) == targets_are_new).all()
        assert (instances.histories.items < 32).all(), "no history that is asked holds a new item"
    who = asked.names("new_target")
    assert who["items"] == [names[item] for item in asked.of_new.targets]

    written = (draw / "asked" / "interactions.parquet").stat().st_mtime_ns
    hold_out(source, draw, 0.2, 0)
    assert (draw / "asked" / "interactions.parquet").stat().st_mtime_ns == written, "what is finished is used again"
    with pytest.raises(SystemExit, match="holds other data or another share"):
        hold_out(source, draw, 0.3, 0)


def test_a_bias_of_ln_m_ranks_as_scores_that_new_items_have_raised():
    scores = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    requests = Requests(Histories.from_lists([[user] for user in range(5)]))
    raised = scores.copy()
    raised[:, 9:] += np.float32(math.log(4))
    biased = cold_items.Biased(ByTable(scores), math.log(4), np.arange(9), np.arange(9, 12))
    expected = ByTable(raised).rank(requests, 6, exclude_seen=True)
    found = biased.rank(requests, 6, exclude_seen=True)
    assert (found.items == expected.items).all()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    assert not (found.items == ByTable(scores).rank(requests, 6, exclude_seen=True).items).all()


def test_users_of_one_item_are_sampled_together():
    values = np.array([1.0, 1, 0, 0])
    assert cold_items.interval(values, ["a", "b", "a", "b"]) == [0.5, 0.5], "either group has the mean of all"
    assert cold_items.interval(values, ["a", "a", "b", "b"]) == [0.0, 1.0]


def test_draws_count_as_one_and_differences_are_of_the_same_users():
    kinds = ("new_target", "new_target_among_new", "old_target")

    def draw(hits, texts):
        who = {"users": ["u", "v"][: len(hits)], "items": ["i", "j"][: len(hits)]}
        alike = {kind: {"recall@10": texts} for kind in kinds[:2]}
        ours = {kind: {"recall@10": hits} for kind in kinds}
        before = {"old_target": {"recall@10": [1.0] * len(hits)}}
        found = {"add_items": ours, "before_adding": before, "texts_alone": alike, "text_neighbours": alike}
        return {"asked": {"new_target": who, "old_target": who}, "found": found}

    draws = [draw([1.0, 0.0], [0.0, 0.0]), draw([1.0], [1.0])]
    found = cold_items.results_of(draws)["add_items"]["new_target"]["recall@10"]
    assert found["value"] == pytest.approx(2 / 3) and found["draws"] == [0.5, 1.0]
    differences = cold_items.differences_of(draws)
    assert differences["add_items - texts_alone, new_target"]["value"] == pytest.approx(1 / 3)
    assert differences["add_items - before_adding, old_target"]["value"] == pytest.approx(-1 / 3)
