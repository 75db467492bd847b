"""Click rows of a given split: what is written is read, what cannot be is said."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.click_examples import PADDING, ClickExamples, liked_events, sampled_rows
from llmrec.data.click_files import read_click_split, write_click_examples
from llmrec.data.given_splits import PARTS
from llmrec.errors import DataError


def rows_of(users, items, labels, histories, times):
    width = max(len(history) for history in histories)
    padded = np.array([[PADDING] * (width - len(each)) + each for each in histories], dtype=np.int32)
    zeros = np.zeros(len(users), np.int32)
    return ClickExamples(
        np.array(users, np.int32), np.array(items, np.int32), np.array(labels, bool), padded, zeros, zeros.copy(),
        None if times is None else np.array(times, np.int64),
    )  # fmt: skip


TRAIN = rows_of([0, 0, 1], [1, 2, 3], [True, False, True], [[], [1], [4, 5, 6]], [10, 20, 5])
VALID = rows_of([0, 0], [3, 4], [True, False], [[1], [1, 3]], [30, 30])
TEST = rows_of([0, 1], [5, 6], [False, True], [[1, 3], [3]], [40, 5])


@pytest.fixture
def folder(tmp_path):
    for name, rows in zip(PARTS, (TRAIN, VALID, TEST), strict=True):
        write_click_examples(tmp_path / f"{name}.parquet", rows)
    return tmp_path


def test_what_is_written_is_read_and_longer_histories_keep_their_latest(folder):
    split = read_click_split(folder, 7, max_history=2)
    assert split.train.histories.tolist() == [[PADDING, PADDING], [PADDING, 1], [5, 6]]
    for name in ("users", "items", "labels", "times"):
        np.testing.assert_array_equal(getattr(split.train, name), getattr(TRAIN, name))
    assert split.card["parts"]["valid"] == {"rows": 2, "positive": 0.5}


def test_earlier_answers_are_counted_strictly_and_over_all_parts(folder):
    split = read_click_split(folder, 7, max_history=2)
    assert (split.train.answered.tolist(), split.train.liked.tolist()) == ([0, 1, 0], [0, 1, 0])
    assert (split.valid.answered.tolist(), split.valid.liked.tolist()) == ([2, 2], [1, 1])
    # user 1's test row happens in the second of his training row
    assert (split.test.answered.tolist(), split.test.liked.tolist()) == ([4, 0], [2, 0])


def test_what_is_no_split_of_this_catalogue_is_refused(folder):
    with pytest.raises(DataError, match="name items 1 to 6, but the catalogue has 0 to 5"):
        read_click_split(folder, 6, max_history=2)
    (folder / "valid.parquet").unlink()
    with pytest.raises(DataError, match=r"valid\.parquet"):
        read_click_split(folder, 7, max_history=2)
    pq.write_table(pa.table({"user": [0], "item": [1]}), folder / "valid.parquet")
    with pytest.raises(DataError, match="columns user, item, label and history"):
        read_click_split(folder, 7, max_history=2)
    write_click_examples(folder / "valid.parquet", VALID.take(np.array([0])))
    with pytest.raises(DataError, match="both classes, but 1 of 1"):
        read_click_split(folder, 7, max_history=2)


@pytest.mark.parametrize("user", [-1, 2**31 - 1])
def test_users_are_numbered_from_0_on(folder, user):
    write_click_examples(folder / "test.parquet", rows_of([0, user], [5, 6], [False, True], [[1], [3]], [40, 5]))
    with pytest.raises(DataError, match=r"users in '.*test.parquet' should be numbered from 0 on"):
        read_click_split(folder, 7, max_history=2)


@pytest.mark.parametrize(
    ("column", "values"),
    [("time", [0.25, 0.5]), ("time", [1, None]), ("user", [2**40, 1]), ("item", [1.5, 2]), ("history", [[0.5], [1.0]])],
)
def test_numbers_that_are_not_whole_or_too_large_are_refused_and_not_cut(folder, column, values):
    table = pq.read_table(folder / "valid.parquet")
    changed = table.set_column(table.column_names.index(column), column, pa.array(values))
    pq.write_table(changed, folder / "valid.parquet")
    with pytest.raises(DataError, match=rf"'{column}' in '.*valid.parquet' should be whole numbers"):
        read_click_split(folder, 7, max_history=2)


def test_liked_rows_are_events_oldest_first():
    rows = rows_of([1, 0, 1, 1], [3, 4, 2, 5], [True, True, True, False], [[]] * 4, [9, 1, 3, 1])
    events = liked_events(rows, 7)
    assert events.indptr.tolist() == [0, 1, 3] and events.items.tolist() == [4, 2, 3]


def test_drawn_rows_begin_with_one_of_each_class_and_repeat_by_seed():
    rows = rows_of([0] * 20, list(range(20)), [True] * 18 + [False] * 2, [[]] * 20, None)
    sampled = sampled_rows(rows, 5, seed=1)
    assert len(sampled) == 5 and sampled.labels[:2].tolist() == [True, False]
    np.testing.assert_array_equal(sampled.items, sampled_rows(rows, 5, seed=1).items)
    assert sorted(sampled_rows(rows, None, seed=1).items.tolist()) == list(range(20))
