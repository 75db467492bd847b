"""Every file of a stranger is either read, or refused in one sentence: whatever bytes, lines, columns and values it has."""

import gzip
import io
import json
import shutil
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.data.check import check
from llmrec.data.click_files import read_click_split
from llmrec.data.feature_files import read_features
from llmrec.data.prepare import prepare
from llmrec.data.readers import read_items
from llmrec.data.title_search import TitleSearch
from llmrec.errors import LlmrecError
from tests.fuzz.conftest import fuzzed
from tests.fuzz.small_files import CATALOG, EVENTS, ITEMS, arrays, ctr_table, files, json_lines, parquet


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "sub").mkdir()
    for name in ("1.png", "sub/50.png"):
        (folder / name).write_bytes(b"an image")
    (folder / "items.jsonl").write_bytes(json_lines(ITEMS))
    (folder / "events.jsonl").write_bytes(json_lines(EVENTS))
    for name in ("valid", "test"):
        (folder / f"{name}.parquet").write_bytes(parquet(ctr_table()))
    return folder


def read(kind, path):
    """As far into the data as a file's content reaches: the catalogue and its texts, a whole data folder, features, click rows."""
    if kind == "clicks":
        return read_click_split(path.parent, 6, max_history=2)
    if kind == "features":
        return read_features("mine", path, CATALOG)
    items, events = path.parent / "items.jsonl", path.parent / "events.jsonl"
    if kind == "events":
        check(items, path)
        return prepare(items, path, path.parent / "out", drop_unknown=True)
    check(path, events)
    catalog = Catalog(read_items(path, unescape=True))
    assert len(catalog.texts()) == catalog.num_items and len(catalog.content_hash) == 16
    TitleSearch(catalog).find("star wars")
    return prepare(path, events, path.parent / "out", drop_unknown=True)


def is_read_or_refused(place: Path, kind: str, name: str, content: bytes) -> None:
    (place / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numpy's word for numbers that do not fit
        try:
            assert read(kind, place / name) is not None
        except LlmrecError as error:
            assert "\n" not in str(error) and 20 < len(str(error)) < 2000, str(error)
        finally:
            (place / name).unlink()


def places(content):
    return st.integers(0, len(content))


# What does harm in some format: quotes, ends of lines and files, brackets, numbers out of range, halves of characters.
PIECES = [
    b"",
    b" ",
    b'"',
    b"'",
    b"\\",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b",",
    b"\t",
    b"|",
    b":",
    b"::",
    b";",
    b"nan",
    b"null",
    b"-1",
    b"1e400",
    b"1e30",
    b"9" * 25,
    b"9" * 5000,
    b"007",
    b"1.5",
    b"{}",
    b"[]",
    b"{",
    b"]",
    b"[" * 150,
    b'{"a":' * 150,
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe9",
    b"\\ud800",
    "\u2028\u0130".encode(),
    b"2024-99-99",
    b"2024-02-30T25:00",
    b"PK\x03\x04",
    b"PAR1",
    b"\x1f\x8b",
    b"\x93NUMPY",
    b"a" * 70_000,
    b"b" * 140_000,
    b"../" * 100,
    b"c" * 300 + b"/1.png",
    b"x\0.png",
    b"<b>&#0;&#1114112;",
    b"True",
    b"item_id",
    b"timestamp",
]


@st.composite
def damaged_bytes(draw):
    kind, name, content = draw(st.sampled_from(files()))
    is_packed = name.endswith(".gz")
    inside = is_packed and draw(st.booleans())
    content = gzip.decompress(content) if inside else content
    for _ in range(draw(st.integers(1, 4))):
        start = draw(places(content))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 5, 20, 100, 10**9])))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(content[start:end] * 2)))
        content = content[:start] + piece + content[end:]
    return kind, name, gzip.compress(content, mtime=0) if inside else content


@fuzzed(0.3)
@given(damaged_bytes())
def test_damaged_bytes_are_read_or_refused(place, damaged):
    is_read_or_refused(place, *damaged)


@st.composite
def changed_lines(draw):
    texts = [
        (kind, name, content)
        for kind, name, content in files()
        if Path(name).suffix in (".csv", ".tsv", ".jsonl", ".inter", ".item")
    ]
    kind, name, content = draw(st.sampled_from(texts))
    lines = content.split(b"\n")[:-1]
    for _ in range(draw(st.integers(1, 3))):
        if not lines:
            break
        line, what = (
            draw(st.integers(0, len(lines) - 1)),
            draw(st.sampled_from(["drop", "twice", "swap", "new", "join", "value"])),
        )
        if what == "drop":
            del lines[line]
        elif what == "twice":
            lines.insert(line, lines[line])
        elif what == "swap":
            lines[line], lines[-1] = lines[-1], lines[line]
        elif what == "new":
            lines.insert(line, draw(st.sampled_from(PIECES)))
        elif what == "join":
            lines[line : line + 2] = [b"".join(lines[line : line + 2])]
        else:
            delimiter = b"\t" if name.endswith(("tsv", "inter", "item")) else b","
            values = lines[line].split(delimiter)
            values[draw(st.integers(0, len(values) - 1))] = draw(st.sampled_from(PIECES))
            lines[line] = delimiter.join(values)
    return (
        kind,
        name,
        draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])).join(lines) + draw(st.sampled_from([b"", b"\n"])),
    )


@fuzzed(0.1)
@given(changed_lines())
def test_changed_lines_are_read_or_refused(place, changed):
    is_read_or_refused(place, *changed)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The same rows as folders that `datasets` saved: kind -> folder. Where it is not installed there is nothing to damage."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("saved")
    label, text = datasets.ClassLabel(names=["Drama", "War"]), datasets.Value("string")
    features = dict.fromkeys(ITEMS[0], text) | {"kind": label, "kinds": datasets.List(label)}
    items = [row | {"kind": n % 2, "kinds": [0, 1][: n % 3]} for n, row in enumerate(ITEMS)]
    datasets.Dataset.from_list(items, features=datasets.Features(features)).save_to_disk(folder / "items")
    datasets.Dataset.from_list(EVENTS).save_to_disk(folder / "events", num_shards=2)
    return folder


DEEP = [json.loads("[" * 90 + "]" * 90), json.loads('{"a":' * 90 + "1" + "}" * 90)]
STATES = [
    None,
    True,
    -1,
    "",
    "x",
    "..",
    "../x",
    [],
    {},
    [None],
    [{}],
    [{"filename": "x"}],
    {"item_id": None},
    [[[]]],
    DEEP[0],
]


def changed_json(draw, content):
    """The object of a file with one of its values, at any depth, another or gone."""
    said = json.loads(content)
    place = said
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inside = place[key]
        if not isinstance(inside, dict | list) or not inside or draw(st.booleans()):
            break
        place = inside
    if draw(st.booleans()):
        del place[key]
    else:
        place[key] = draw(st.sampled_from(STATES))
    return json.dumps(said).encode()


@fuzzed(0.1)
@given(data=st.data(), kind=st.sampled_from(["items", "events"]))
def test_a_damaged_folder_of_a_saved_dataset_is_read_or_refused(place, saved, data, kind):
    shutil.rmtree(place / "x", ignore_errors=True)
    shutil.copytree(saved / kind, place / "x")
    path = data.draw(st.sampled_from(sorted((place / "x").iterdir())))
    content = path.read_bytes()
    if path.suffix == ".json" and data.draw(st.booleans()):
        content = changed_json(data.draw, content)
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(places(content))
            piece = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)))
            content = content[:start] + piece + content[start + data.draw(st.sampled_from([len(piece), 0, 1, 10**9])) :]
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            assert read(kind, place / "x") is not None
        except LlmrecError as error:
            assert "\n" not in str(error) and 20 < len(str(error)) < 2000, str(error)


VALUES = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            0,
            -1,
            1.0,
            1.5,
            1e308,
            float("nan"),
            float("inf"),
            2**31,
            2**53 + 1,
            2**63,
            -(2**64),
            10**30,
            *DEEP,
        ]
    ),
    st.sampled_from(
        [
            "",
            " ",
            "1 ",
            "nan",
            "None",
            "\ud800",
            "x\0.png",
            "a" * 300,
            "../" * 99,
            "http://x/1.png",
            "a|b",
            "2024-01-31",
            "٣",
            "1" * 400,
        ]
    ),
    st.sampled_from(
        [
            [],
            {},
            [None],
            ["1", "12"],
            [1, "a"],
            [[1.0]],
            {"$oid": "1"},
            {"a": None},
            {"a": {}},
            {"": 1},
            [{"a": 1}, {"b": []}],
        ]
    ),
    st.text(max_size=6),
)
NAMES = [
    "item_id",
    "user_id",
    "title",
    "timestamp",
    "rating",
    "step",
    "image",
    "genres",
    "created_at",
    "",
    " ",
    "a.b",
    "\ud800",
    "Unnamed: 0",
]


@st.composite
def odd_json(draw):
    kind, rows = draw(
        st.sampled_from([("items", ITEMS), ("events", EVENTS), ("features", [{"item_id": "1", "v": [1.0, 2.0]}])])
    )
    rows = [dict(row) for row in rows]
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from([*rows[0], *NAMES]))
        value = draw(VALUES)
        for row in rows if draw(st.booleans()) else [rows[draw(st.integers(0, len(rows) - 1))]]:
            if draw(st.booleans()):
                row[name] = value
            else:
                row.pop(name, None)
    return kind, "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()


@fuzzed(0.1)
@given(odd_json())
def test_odd_values_in_json_are_read_or_refused(place, odd):
    is_read_or_refused(place, *odd)


@st.composite
def odd_parquet(draw):
    kind, name, content = draw(st.sampled_from([f for f in files() if f[1].endswith(".parquet")]))
    table = pq.read_table(io.BytesIO(content))
    names, columns = list(table.column_names), list(table.columns)
    for _ in range(draw(st.integers(1, 3))):
        array = draw(st.sampled_from(arrays(table.num_rows)))
        if draw(st.booleans()):
            columns[draw(st.integers(0, len(columns) - 1))] = array
        else:
            columns.append(array)
            names.append(draw(st.sampled_from([*names, *NAMES[:-2]])))
    if draw(st.booleans()):
        columns = [column.slice(0, draw(st.sampled_from([0, 1]))) for column in columns]
        columns = [column.slice(0, min(map(len, columns))) for column in columns]
    try:
        return kind, name, parquet(pa.Table.from_arrays(columns, names))
    except pa.ArrowException:  # parquet cannot hold these values
        reject()


@fuzzed(0.1)
@given(odd_parquet())
def test_odd_columns_of_parquet_are_read_or_refused(place, odd):
    is_read_or_refused(place, *odd)
