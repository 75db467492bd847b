"""Every file of users is read, or refused in one sentence that names it."""

import gzip

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.users import User, UserFile
from llmrec.serving.users_job import _KnownItems
from tests.fuzz.conftest import fuzzed
from tests.fuzz.outcome import loads_or_says_why
from tests.fuzz.small_files import CATALOG, arrays, json_lines, parquet
from tests.fuzz.test_data_files import PIECES, places

ROWS = [
    {"user_id": "196", "history": ["50", "181"], "candidates": ["1", "12"], "exclude": None, "instruction": "a comedy"},
    {"user_id": "186", "history": [], "candidates": None, "exclude": ["133"], "instruction": None},
    {"user_id": "22", "history": ["1"], "candidates": None, "exclude": None, "instruction": ""},
]
CSV = b'user_id,history,candidates,exclude,instruction\n196,50|181,1|12,,"a comedy, or so"\n186,,,133,\n22,1,,,\n'
FILES = [
    ("u.csv", CSV),
    ("u.tsv", CSV.replace(b",", b"\t")),
    ("u.jsonl", json_lines(ROWS)),
    ("u.parquet", parquet(pa.Table.from_pylist(ROWS))),
    ("u.csv.gz", gzip.compress(CSV, mtime=0)),
]


def users_of(path) -> None:
    """As far into the file as a job reads before anybody is asked."""
    users = list(UserFile(path))
    assert all(isinstance(user, User) and user.user_id.strip() and isinstance(user.history, list) for user in users)
    list(_KnownItems(CATALOG, str(path)).shards(iter(users), 2, True))


@fuzzed(0.1)
@given(data=st.data(), file=st.sampled_from(FILES))
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, data, file):
    name, content = file
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(places(content))
        end = min(len(content), start + data.draw(st.sampled_from([0, 1, 2, 5, 20, 10**9])))
        piece = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(content[start:end] * 2)))
        content = content[:start] + piece + content[end:]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    loads_or_says_why(lambda: users_of(path))


@fuzzed(0.03)
@given(data=st.data(), column=st.sampled_from(["user_id", "history", "candidates", "exclude", "instruction"]))
def test_columns_of_any_type_are_read_or_refused(tmp_path_factory, data, column):
    table = pa.Table.from_pylist(ROWS)
    place = table.column_names.index(column)
    table = table.set_column(place, column, data.draw(st.sampled_from(arrays(len(ROWS)))))
    path = tmp_path_factory.getbasetemp() / "u.parquet"
    path.write_bytes(parquet(table))
    loads_or_says_why(lambda: users_of(path))
