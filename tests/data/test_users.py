"""Files of users: what each format may say, and which row a mistake is in."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.folder import load_data
from llmrec.data.users import User, UserFile, users_of_data
from llmrec.errors import DataError

EXPECTED = [
    User("1", ["50", "181"], None, ["7"], None),
    User("b", [], ["2", "3"], None, "something light"),
    User("1", ["9"], None, None, None),
]
CSV = "user,history,candidates,exclude,instruction\n1,50|181,,7,\nb,,2 | 3,,something light\n1,9,,,\n"


def test_csv_tsv_and_their_gzipped_forms_say_the_same(tmp_path):
    (tmp_path / "u.csv").write_text("\ufeff" + CSV)
    (tmp_path / "u.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "u.csv.gz").write_bytes(gzip.compress(CSV.replace("|", " ").encode()))
    assert list(UserFile(tmp_path / "u.csv")) == list(UserFile(tmp_path / "u.tsv")) == EXPECTED
    assert next(iter(UserFile(tmp_path / "u.csv.gz", " "))) == EXPECTED[0]


def test_parquet_and_json_lines_take_lists_of_texts_or_numbers(tmp_path):
    columns = {
        "user_id": ["1", "b", "1"],
        "history": [[50, 181], [], [9]],
        "candidates": [None, [2, 3], None],
        "exclude": [[7], None, None],
        "instruction": [None, "something light", None],
        "age": [1, 2, 3],
    }
    pq.write_table(pa.table(columns), tmp_path / "u.parquet", row_group_size=2)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    rows[0] |= {"user_id": 1, "history": ["50", 181.0]}
    (tmp_path / "u.jsonl").write_text(
        "\n".join(json.dumps({k: v for k, v in r.items() if v is not None}) for r in rows)
    )
    assert list(UserFile(tmp_path / "u.parquet")) == list(UserFile(tmp_path / "u.jsonl")) == EXPECTED
    assert UserFile(tmp_path / "u.parquet").passed_over == UserFile(tmp_path / "u.jsonl").passed_over == ["age"]


def test_what_later_lines_of_json_have_is_read_too(tmp_path):
    lines = [{"user_id": n, "history": []} for n in range(2000)] + [{"user_id": "x", "history": [], "exclude": [1]}]
    (tmp_path / "u.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert list(UserFile(tmp_path / "u.jsonl"))[-1] == User("x", [], exclude=["1"])


def test_a_history_of_a_hundred_thousand_items_is_no_mistake(tmp_path):
    (tmp_path / "u.csv").write_text("user_id,history\na," + "|".join(["1234567"] * 100_000) + "\n")
    assert len(next(iter(UserFile(tmp_path / "u.csv"))).history) == 100_000


def test_the_users_of_a_data_folder_have_all_their_events(few_users):
    data = load_data(few_users)
    users = list(users_of_data(data))
    assert [user.user_id for user in users] == data.user_ids
    assert users[3].history == [data.catalog.item_id(item) for item in data.interactions.histories[3]]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("u.csv", "", "is empty. Expected a header line"),
        ("u.csv", "user_id,items\na,1\n", "needs a column 'history', but has only: user_id, items"),
        ("u.csv", "history\n1\n", "needs a column 'user_id', but has only: history"),
        ("u.csv", "user_id,history,history\na,1,2\n", "has the column 'history' more than once"),
        ("u.csv", "user_id,history\na,1\nb,2,3\n", "row 2: there are 3 fields, but the header names 2"),
        ("u.csv", "user_id,history\na,1\n,2\n", "row 2: user_id is missing"),
        ("u.csv", "user_id,history\nnan,1\n", r"row 1: user_id is missing \('nan'\)"),
        ("u.csv", "user_id,history\na,1||2\n", "row 1: an item id in history is missing"),
        ("u.csv", b"user_id,history\na,\xff\n", "is not UTF-8"),
        ("u.json", "[]", "users are read from .parquet, .csv, .tsv or .jsonl"),
        ("u.inter", "user_id:token\n", "users are read from .parquet, .csv, .tsv or .jsonl"),
        ("u.xlsx", "x", "has no ending that tells its format"),
        ("u.parquet", "user_id,history\n", "could not be read as a parquet table of users"),
        ("u.jsonl", '{"user_id": 1, "history": []}\n[1]\n', r"row 2: expected a JSON object, but there is \[1\]"),
        ("u.jsonl", '{"user_id": 1, "history": []}\n{"user_id"', "row 2: this is not JSON"),
        ("u.jsonl", '{"user_id": 1, "history": null}', "row 1: the history is missing. Write an empty list"),
        ("u.jsonl", '{"user_id": 1, "history": "50"}', 'row 1: history should be a list of item ids, but it is "50"'),
        ("u.jsonl", '{"user_id": 1, "history": [null]}', "row 1: an item id in history is missing"),
        (
            "u.jsonl",
            '{"user_id": 1, "history": [1.5]}',
            "row 1: an item id in history should be text or a whole number",
        ),
        (
            "u.jsonl",
            '{"user_id": 1, "history": [[1]]}',
            "row 1: an item id in history should be text or a whole number",
        ),
        ("u.jsonl", '{"user_id": true, "history": []}', "row 1: user_id should be text or a whole number"),
        ("u.jsonl", '{"user_id": 1, "history": [], "candidates": []}', "row 1: the list of candidates is empty"),
        ("u.jsonl", '{"user_id": 1, "history": [], "instruction": 3}', "row 1: the instruction should be a text"),
        ("u.jsonl", '{"user_id": "\\ud800", "history": []}', "row 1: user_id holds half of a character"),
        ("u.jsonl", '{"user_id": 1, "history": ["\\ud800"]}', "row 1: an item id in history holds half of a character"),
        ("u.jsonl", "[" * 100_000, "nested too deeply|this is not JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=sentence):
        list(UserFile(path))
