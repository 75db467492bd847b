"""Slices by hand: cold, rare, long tail, new users, activity, columns; the same for rankings and clicks."""

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories, Interactions
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.slices import OfColumn, RareTarget, row_masks, slice_masks
from llmrec.evaluation.tasks import load_task

CATALOG = Catalog.from_rows(
    [
        {"item_id": str(item), "title": f"Film {item}", "genres": genres}
        for item, genres in enumerate([["Comedy"], ["Comedy", "Drama"], ["Drama"], [], ["Horror"]])
    ]
)
COUNTS = np.array([60, 20, 15, 5, 0])


def masks_of(*slices, items=(0, 1, 2, 3, 4), lengths=(1, 1, 2, 3, 9)):
    histories = Histories.from_lists([[4] * length for length in lengths])
    is_new = np.array([item == 2 for item in items])
    found = slice_masks(
        slices, CATALOG, counts=COUNTS, is_new_user=is_new, items=np.array(items), histories=histories,
        activity=np.array(lengths),
    )  # fmt: skip
    return {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}


def test_popularity_divides_targets():
    assert masks_of("cold_target", RareTarget(rare_target=16), "long_tail") == {
        "cold_target": [4], "rare_target<16": [2, 3, 4], "long_tail": [2, 3, 4],  # 60 + 20 are 80 % of 100
    }  # fmt: skip


def test_users_are_divided_by_what_is_known_of_them():
    assert masks_of("cold_user", "repeated_target", "new_target") == {
        "cold_user": [2], "repeated_target": [4], "new_target": [0, 1, 2, 3],
    }  # fmt: skip
    assert masks_of("user_activity") == {
        "user_activity=1": [0, 1],
        "user_activity=2": [2],
        "user_activity=3 to 9": [3, 4],
    }
    # of five, four have the most: they are the middle third and the last one together, under the name of the middle
    assert masks_of("user_activity", lengths=[1, 5, 5, 5, 5]) == {
        "user_activity=1": [0],
        "user_activity=5": [1, 2, 3, 4],
    }
    assert masks_of("user_activity", lengths=[5] * 5) == {"user_activity=5": [0, 1, 2, 3, 4]}


def test_a_column_has_a_slice_a_value_and_targets_with_several_are_in_several():
    assert masks_of(OfColumn(column="genres")) == {
        "genres=Comedy": [0, 1], "genres=Drama": [1, 2], "genres=Horror": [4], "genres: other": [3],
    }  # fmt: skip
    with pytest.raises(DataError, match="no column 'brand'"):
        masks_of(OfColumn(column="brand"))


def test_of_many_values_the_most_frequent_twenty_stay_and_the_rest_are_together():
    catalog = Catalog.from_rows([{"item_id": str(item), "title": "t", "brand": f"b{item:02d}"} for item in range(30)])
    items = np.array([*range(30), 29, 29])
    found = slice_masks(
        [OfColumn(column="brand")], catalog, counts=np.ones(30, int), is_new_user=np.zeros(32, bool), items=items,
        histories=Histories.from_lists([[]] * 32), activity=np.zeros(32, int),
    )  # fmt: skip
    assert len(found) == 21 and found["brand=b29"].sum() == 3
    assert found["brand: other"].sum() == 10 and sum(mask.sum() for mask in found.values()) == 32


def data_with_genres():
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 1000, (40, 6)), axis=1).ravel()
    events = Interactions(np.arange(0, 241, 6), rng.integers(0, 5, 240), 5, times)
    return Data(CATALOG, events, Features(5), [str(user) for user in range(40)])


def test_a_task_s_slices_stand_beside_those_of_every_ranking(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{name: mine, version: 1, metrics: [ndcg], ks: [3], exclude_seen: false, slices: [{column: genres}, user_activity]}"
    )
    task, data = load_task(path), data_with_genres()
    evaluation = evaluate(fit_baseline("popularity", task.make(data), "train"), data, task)
    assert list(evaluation.slices)[:3] == ["cold_target", "repeated_target", "new_target"]
    comedy = evaluation.masks["genres=Comedy"]
    assert evaluation.slices["genres=Comedy"]["num_users"] == comedy.sum() > 0
    value = evaluation.slices["genres=Comedy"]["metrics"]["ndcg@3"]["value"]
    assert value == pytest.approx(evaluation.per_user["ndcg@3"][comedy].mean())
    path.write_text("{name: mine, version: 1, metrics: [ndcg], ks: [3], slices: [cold_items]}")
    with pytest.raises(ConfigError, match="slices"):
        load_task(path)


def test_click_rows_have_the_same_slices():
    data = data_with_genres()
    split = click_examples(data.interactions, valid=0.2, test=0.3, max_history=2)
    found = row_masks(
        ["cold_target", "cold_user", "user_activity", RareTarget(rare_target=1000)], data, split, split.test
    )
    np.testing.assert_array_equal(found["cold_user"], ~np.isin(split.test.users, split.train.users))
    assert found["rare_target<1000"].all()
    first = next(
        name for name in found if name.startswith("user_activity")
    )  # likes before the row, however few are shown
    assert split.test.liked[found[first]].max() < split.test.liked[~found[first]].min()
