"""Packed rows: every row is all there, sees itself and nothing else, and shared beginnings stand once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.items.forms import NO_TARGET
from llmrec.prompting.packing import MIN_SHARED, PackingCollator, place_rows, seen_until

# two tokens and short rows, so that beginnings are shared in every way there is; none so long that one token is too little
few_rows = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=8), min_size=1, max_size=9)


def row_of(ids, num_targets=1):
    labels = np.array(ids, dtype=np.int64)
    labels[: len(ids) - num_targets] = NO_TARGET
    return {"input_ids": np.array(ids, dtype=np.int32), "labels": labels}


def packed_ids(rows, places, length):
    """int64 (length,): the token at each place; asserts that rows which meet there agree."""
    ids = np.full(length, -1)
    for row, place in zip(rows, places, strict=True):
        assert np.isin(ids[place], [-1]).all() | (ids[place][ids[place] >= 0] == np.array(row)[ids[place] >= 0]).all()
        ids[place] = row
    return ids


@given(few_rows, st.sampled_from([None, 1, 2, 4]))
def test_a_rows_last_token_sees_that_row_and_nothing_else(lists, min_shared):
    rows = [np.array(row, dtype=np.int32) for row in lists]
    places, length = place_rows(rows, min_shared=min_shared)
    positions = np.full(length, -1)
    for row, place in zip(rows, places, strict=True):
        positions[place] = np.arange(len(row))
    assert (packed_ids(rows, places, length) >= 0).all() and (positions >= 0).all(), "no place is empty"
    until = seen_until(positions)
    for place in places:
        last = place[-1]
        assert [j for j in range(last + 1) if last < until[j]] == place.tolist()


@given(few_rows)
def test_shared_beginnings_stand_once(lists):
    rows = [np.array(row, dtype=np.int32) for row in lists]
    _, length = place_rows(rows, min_shared=1)
    assert length == len({tuple(row[:stop]) for row in lists for stop in range(1, len(row) + 1)})


def test_a_beginning_that_is_little_of_a_long_row_is_not_worth_sharing():
    for rest, num_shared in ((40, MIN_SHARED), (100, 0)):
        rows = [np.array([*range(MIN_SHARED), *[100 + row] * rest], dtype=np.int32) for row in range(2)]
        assert place_rows(rows, min_shared=MIN_SHARED)[1] == sum(map(len, rows)) - num_shared


@given(few_rows)
def test_without_sharing_examples_stand_one_after_the_other(lists):
    places, length = place_rows([np.array(row) for row in lists], min_shared=None)
    assert sorted(np.concatenate(places).tolist()) == list(range(length)) and length == sum(map(len, lists))


def test_the_example_of_the_docstring():
    rows = [np.array(row, dtype=np.int32) for row in ([7, 7, 1, 2, 9], [7, 7, 1, 8], [7, 7, 3, 5])]
    places, length = place_rows(rows, min_shared=1)
    assert [place.tolist() for place in places] == [[0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 6, 7]] and length == 8
    assert seen_until(np.array([0, 1, 2, 3, 4, 3, 2, 3])).tolist() == [8, 8, 6, 5, 5, 6, 8, 8]


def test_every_target_is_predicted_from_the_token_before_it_in_its_own_row():
    head = list(range(MIN_SHARED))
    rows = [row_of([*head, 20, 21], 2), row_of([*head, 22], 1), row_of([*head, 20, 21, 30, 23], 1)]
    for share in (False, True):
        batch = {name: values.numpy() for name, values in PackingCollator(share, multiple=1)(rows).items()}
        assert batch["labels"].tolist() == [20, 21, 22, 23]
        before = batch["input_ids"][0, batch["predict_at"]].tolist()
        assert before == [head[-1], 20, head[-1], 30]
        assert batch["position_ids"][0, batch["predict_at"]].tolist() == [7, 8, 7, 10]
        assert batch["input_ids"].shape == (
            1,
            11 if share else 28,
        )  # without the rows' last tokens: they predict nothing


def test_a_packed_length_is_rounded_up_by_a_row_that_nobody_sees():
    rows = [row_of([5, 6, 7, 1], 2), row_of([8, 9, 1], 1)]
    exact, rounded = (PackingCollator(multiple=multiple)(rows) for multiple in (1, 8))
    assert exact["input_ids"].shape == (1, 5) and rounded["input_ids"].shape == (1, 8)
    assert rounded["position_ids"][0, 5:].tolist() == [0, 1, 2]
    assert rounded["seen_until"][0, :5].max() == 5 and rounded["seen_until"][0, 5:].tolist() == [8, 8, 8]
    assert rounded["predict_at"].equal(exact["predict_at"]) and rounded["labels"].equal(exact["labels"])


@pytest.mark.parametrize(
    ("length", "rounded"), [(1, 16), (17, 32), (207, 208), (257, 288), (513, 576), (1025, 1088), (5000, 5056)]
)
def test_a_packed_length_grows_by_an_eighth_or_by_fifteen_tokens_at_most(length, rounded):
    row = row_of([7] * (length + 1), 1)
    assert PackingCollator()([row])["input_ids"].shape == (1, rounded)
    assert rounded - length < max(16, length / 8)


def test_what_follows_the_last_target_is_left_out():
    row = row_of([5, 6, 7, 8, 9], 2)
    row["labels"][-1] = NO_TARGET
    batch = PackingCollator(multiple=1)([row, row_of([3, 4], 0)])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 3]]
    assert batch["labels"].tolist() == [8]


def test_a_first_token_is_never_a_target():
    batch = PackingCollator(share_prefixes=False)([row_of([5, 6], 2), row_of([7], 1)])
    assert batch["labels"].tolist() == [6]


@pytest.mark.parametrize("common", [MIN_SHARED - 1, MIN_SHARED])
def test_a_short_beginning_is_not_worth_sharing(common):
    head = list(range(common))
    batch = PackingCollator(multiple=1)([row_of([*head, 50, 9]), row_of([*head, 60, 9])])
    assert batch["input_ids"].numel() == (2 * (common + 1) if common < MIN_SHARED else common + 2)


def test_many_rows_that_leave_each_other_one_by_one_need_no_deep_recursion():
    rows = [np.array([1] * depth + [2], dtype=np.int32) for depth in range(1, 1500)]  # each leaves all longer ones
    _, length = place_rows(rows, min_shared=1)
    assert length == 1499 + 1499
