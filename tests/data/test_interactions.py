import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.interactions import Histories, Interactions, integers
from llmrec.errors import DataError

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


@given(ROWS, st.data())
def test_taken_rows_are_the_rows_asked_for(rows, data):
    histories = Histories.from_lists(rows)
    assert [row.tolist() for row in histories] == rows
    assert histories.lengths.tolist() == [len(row) for row in rows]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)) if rows else []
    assert [row.tolist() for row in histories.take(chosen)] == [rows[n] for n in chosen]


@given(ROWS, st.integers(0, 4))
def test_head_drops_the_last_events_of_every_user(rows, drop):
    histories = Histories.from_lists(rows)
    times = np.arange(len(histories.items))
    head = Interactions(histories.indptr, histories.items, 10, times).head(drop)
    assert [row.tolist() for row in head.histories] == [row[: max(len(row) - drop, 0)] for row in rows]
    assert head.num_users == len(rows)
    assert len(head.times) == head.num_events


def test_counts_are_events_of_each_item_with_zeros_for_the_others():
    assert Interactions([0, 2, 3], [1, 1, 3], 5).counts().tolist() == [0, 2, 0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"indptr": [0, 2]}, "indptr should rise from 0 to the number of events"),
        ({"indptr": [0, 4, 3]}, "indptr should rise"),
        ({"indptr": []}, "indptr should rise.*empty"),
        (
            {"items": [0, 1, 5]},
            r"items should lie in 0\.\.4 \(num_items 5\), but 1 do not \(the first is 5 at position 2",
        ),
        ({"items": [0, 1, -1]}, "the first is -1 at position 2"),
        ({"items": [0, 1, np.nan]}, "items should be whole numbers.*the first is nan at position 2"),
        ({"items": ["a", "b", "c"]}, "items should be whole numbers but came as"),
        ({"times": [3, 2, 9]}, "times should not fall within a user.*user 0, position 1"),
        ({"times": [1.0, np.nan, 3.0]}, "times should be whole numbers.*nan at position 1"),
        ({"times": [1, 2]}, r"times should have one entry per event \(3\) but have 2"),
        ({"ratings": [1, np.nan, 2]}, "ratings should be finite, but 1 are"),
        ({"ratings": [1]}, "ratings should have one entry per event"),
    ],
)
def test_what_does_not_hold_is_refused_in_words(arguments, sentence):
    with pytest.raises(DataError, match=sentence):
        Interactions(**({"indptr": [0, 2, 3], "items": [0, 1, 2], "num_items": 5} | arguments))


def test_times_may_fall_from_one_user_to_the_next_also_around_empty_users():
    times = Interactions([0, 0, 2, 2, 3, 3], [0, 1, 2], 3, [5, 6, 1]).times
    assert times.tolist() == [5, 6, 1] and times.dtype == np.int64


def test_dtypes_are_the_promised_ones_whatever_came():
    interactions = Interactions([0, 2], [0.0, 1.0], 2, [1.0, 2.0], [3, 4])
    assert (interactions.indptr.dtype, interactions.items.dtype) == (np.int64, np.int32)
    assert (interactions.times.dtype, interactions.ratings.dtype) == (np.int64, np.float32)


def test_numbers_beyond_the_limits_of_a_type_are_refused_and_half_floats_are_numbers():
    assert integers(np.array([1, 2], np.float16), np.int32, "items").tolist() == [1, 2]
    for values, kind in (([2.0**63], np.int64), ([2.0**31], np.int32), ([np.nan], np.int32)):
        with pytest.raises(DataError, match="should be whole numbers between"):
            integers(np.array(values), kind, "items")
