"""What orders events: times with fractions, far numbers, which column counts, doubles, user ids with spaces."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.check import check
from llmrec.data.events import whole_times
from llmrec.data.prepare import prepare
from llmrec.data.splits import temporal
from llmrec.errors import DataError


@pytest.fixture
def files(tmp_path):
    """Writes events for six items; gives what `prepare` and `check` take."""

    def write(events: str):
        (tmp_path / "i.csv").write_text("item_id,title\n" + "".join(f"{item},Film {item}\n" for item in range(6)))
        (tmp_path / "e.csv").write_text(events)
        return tmp_path / "i.csv", tmp_path / "e.csv"

    return write


def warnings_of(files) -> str:
    return " ".join(entry["message"] for entry in check(*files)["warnings"])


def test_times_with_fractions_stay_as_different_as_in_the_file(files, tmp_path):
    rows = [f"u{user},{item},{time}\n" for user in range(3) for item, time in enumerate((0.11, 0.12, 0.13, 0.21))]
    asked = files("user,item,timestamp\n" + "".join(rows))
    data = prepare(*asked, tmp_path / "out")
    assert data.interactions.times.tolist() == [11, 12, 13, 21] * 3 and data.card["time_decimals"] == 2
    assert data.card["counts"]["tied_events"] == 0 and "at the time of" not in warnings_of(asked)
    split = temporal(data.interactions, test_quantile=0.7, valid_quantile=0.3)
    assert split.test.targets.tolist() == [3, 3, 3] and split.card["test_cut"] == 13


def test_times_that_are_equal_in_the_file_stay_equal(files, tmp_path):
    data = prepare(*files("user,item,timestamp\nu,2,0.5\nu,1,0.5\nu,0,0.25\n"), tmp_path / "out")
    assert data.interactions.times.tolist() == [25, 50, 50] and data.card["counts"]["tied_events"] == 1
    assert data.interactions.items.tolist() == [0, 2, 1]


def test_dates_with_fractions_of_a_second_keep_them(tmp_path, files):
    items, _ = files("")
    times = np.array(
        ["2024-01-31T00:00:00.250", "2024-01-31T00:00:00.750", "2024-01-31T00:00:00.500"], "datetime64[ns]"
    )
    pq.write_table(pa.table({"user": ["u"] * 3, "item": ["0", "1", "2"], "time": times}), tmp_path / "e.parquet")
    data = prepare(items, tmp_path / "e.parquet", tmp_path / "out")
    assert data.interactions.items.tolist() == [0, 2, 1] and data.interactions.times[0] == 170665920025
    times = times + np.array([0, 1, 2], "timedelta64[ns]")
    pq.write_table(pa.table({"user": ["u"] * 3, "item": ["0", "1", "2"], "time": times}), tmp_path / "e.parquet")
    data = prepare(items, tmp_path / "e.parquet", tmp_path / "out")
    assert data.interactions.times.tolist() == np.sort(times).astype(np.int64).tolist()


@given(st.lists(st.floats(-1e12, 1e12) | st.sampled_from([0.1, 1 / 3, 2 / 3, 1e9 + 0.001, 5e-324]), min_size=1))
def test_whole_times_sort_and_tie_as_the_times_do_or_are_refused(times):
    times = np.array(times)
    try:
        whole, decimals = whole_times(times)
    except DataError as error:
        assert "cannot keep them apart" in str(error)
        return
    assert whole.dtype == np.int64 and 0 <= decimals <= 18
    assert np.array_equal(np.unique(whole, return_inverse=True)[1], np.unique(times, return_inverse=True)[1])


def test_normalised_times_of_32_bits_are_kept_apart():
    times = np.linspace(0, 1, 1000, dtype=np.float32).astype(np.float64)
    assert len(np.unique(whole_times(times)[0])) == 1000


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", "1e30"),
        ("timestamp", "-1e30"),
        ("timestamp", "9223372036854775808"),
        ("step", "1e30"),
        ("rating", "1e39"),
        ("rating", "-1e300"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_row(files, tmp_path, column, value):
    asked = files(f"user,item,{column}\nu,1,3\nu,2,{value}\n")
    with pytest.raises(
        DataError, match=rf"{column} should lie within .*, but 1 of 2 rows do not \(the first is row 2, wi"
    ):
        prepare(*asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_out_of_range_of_parquet_and_json_are_refused_too(files, tmp_path):
    items, _ = files("")
    times = pa.array([1, 2**64 - 1], pa.uint64())
    pq.write_table(pa.table({"user": ["u", "u"], "item": ["1", "2"], "timestamp": times}), tmp_path / "e.parquet")
    (tmp_path / "e.jsonl").write_text(
        '{"user": "u", "item": "1", "timestamp": 1}\n{"user": "u", "item": "2", "timestamp": ' + "9" * 30 + "}\n"
    )
    for name in ("e.parquet", "e.jsonl"):
        with pytest.raises(DataError, match=r"timestamp should lie within .*the first is row 2"):
            prepare(items, tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us"), pa.uint64()])
def test_whole_numbers_of_any_type_and_size_sort_as_they_are(files, tmp_path, kind):
    items, _ = files("")
    times = pa.array([2**62, 0, 2**61], pa.int64()).cast(kind)
    pq.write_table(pa.table({"user": ["u"] * 3, "item": ["0", "1", "2"], "time": times}), tmp_path / "e.parquet")
    assert prepare(items, tmp_path / "e.parquet", tmp_path / "out").interactions.items.tolist() == [1, 2, 0]


def test_times_before_1970_and_at_both_ends_of_64_bits_are_times(files, tmp_path):
    data = prepare(*files(f"user,item,time\nu,0,{2**63 - 1}\nu,1,{-(2**63)}\nu,2,-7\n"), tmp_path / "out")
    assert data.interactions.items.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("header", "row", "chosen"),
    [
        ("position,created_at", "{down},{time}", "created_at"),
        ("date,time_ms", "20240101,{time}000", "time_ms"),
        ("position,event_timestamp", "{down},{time}", "event_timestamp"),
        ("step,eventTime", "{down},{time}", "eventTime"),
    ],
)
def test_a_column_of_times_under_a_known_name_goes_before_steps_and_days(files, tmp_path, header, row, chosen):
    rows = "".join(f"u,{n}," + row.format(down=9 - n, time=1_700_000_000 + n) + "\n" for n in range(3))
    data = prepare(*files(f"user_id,item_id,{header}\n" + rows), tmp_path / "out")
    assert data.interactions.items.tolist() == [0, 1, 2]
    assert (data.card["order"], data.card["order_column"]) == ("timestamp", chosen)


@pytest.mark.parametrize(
    ("header", "values", "warned"),
    [
        ("click_timestamp", ["1700000000", "1700000001"], True),
        ("click_timestamp", ["1700000000", "0"], False),  # not a time throughout
        ("updated at", ["2024-01-31 12:00:00", "2024-02-01 12:00:00"], True),
        ("watch_time", ["30", "95"], False),  # seconds watched
        ("startedAt", ["1700000000123", "1700000000456"], True),
        ("format", ["1700000000", "1700000001"], False),  # nothing in its name speaks of time
    ],
)
def test_another_column_of_times_is_warned_of(files, tmp_path, header, values, warned):
    asked = files(f"user,item,position,{header}\nu,0,2,{values[0]}\nu,1,1,{values[1]}\n")
    data = prepare(*asked, tmp_path / "out")
    assert data.card["order_column"] == "position" and data.card["other_time_columns"] == [header] * warned
    assert (f"go by 'position', but '{header}' holds a time in every row too" in warnings_of(asked)) == warned
    named = prepare(*asked, tmp_path / "named", columns={"timestamp": header})
    assert named.card["order_column"] == header and named.card["other_time_columns"] == []


def test_doubles_are_counted_and_left_out_on_request(files, tmp_path):
    log = "u,0,5\nu,1,7\nv,1,7\nu,0,9\n"  # item 0 again, later: no double
    asked = files("user,item,time\n" + log + log)
    data = prepare(*asked, tmp_path / "out")
    assert data.card["counts"]["doubled_events"] == 4 and data.interactions.num_events == 8
    assert "4 interactions are doubles of an earlier one (same user, item and time)" in warnings_of(asked)
    once = prepare(*asked, tmp_path / "once", drop_doubles=True)
    assert once.card["counts"]["doubled_events"] == 0 and once.card["counts"]["dropped_events"]["double"] == 4
    assert once.content_hash() == prepare(*files("user,item,time\n" + log), tmp_path / "log").content_hash()


def test_a_double_of_an_event_that_was_left_out_is_none(files, tmp_path):
    data = prepare(
        *files("user,item,rating,time\nu,0,1,5\nu,0,5,5\n"), tmp_path / "out", rating_threshold=4, drop_doubles=True
    )
    assert data.interactions.ratings.tolist() == [5]


def test_without_times_nothing_tells_a_double(files, tmp_path):
    asked = files("user,item\nu,0\nu,0\n")
    assert "doubled_events" not in prepare(*asked, tmp_path / "out").card["counts"]
    with pytest.raises(
        DataError, match="has neither times nor steps, so a repeated event cannot be told from a double"
    ):
        prepare(*asked, tmp_path / "out", drop_doubles=True)


def test_check_counts_user_ids_that_spaces_alone_tell_apart(files):
    report = warnings_of(files("user_id,item_id\nu0,1\nu0 ,2\n u0,3\nu1,4\n"))
    assert "3 user ids differ from another one by spaces alone" in report
