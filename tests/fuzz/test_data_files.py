"""Every file of a stranger is either read, or refused in one sentence: whatever bytes, lines, columns and values it has."""

import gzip
import io
import json
import warnings
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from llmrec.data.catalog import Catalog
from llmrec.data.check import check
from llmrec.data.click_files import read_click_split
from llmrec.data.feature_files import read_features
from llmrec.data.movielens import _GENRES
from llmrec.data.prepare import prepare
from llmrec.data.readers import read_items
from llmrec.data.title_search import TitleSearch
from llmrec.errors import LlmrecError
from tests.fuzz.conftest import fuzzed

# Rows of MovieLens-100K, of which one title is quoted, one begins with a mark, one has markup.
ITEMS = [
    {"item_id": "1", "title": "Toy Story", "year": "1995", "genres": "Animation|Children's|Comedy", "image": "1.png"},
    {"item_id": "12", "title": "Usual Suspects, The", "year": "1995", "genres": "Crime|Thriller", "image": ""},
    {"item_id": "50", "title": "Star Wars", "year": "1977", "genres": "Action|Sci-Fi|War", "image": "sub/50.png"},
    {"item_id": "133", "title": "Gone with the Wind", "year": "1939", "genres": "Drama|Romance", "image": ""},
    {"item_id": "144", "title": '"Die Hard" & more', "year": "1988", "genres": "Action", "image": ""},
    {
        "item_id": "181",
        "title": "Return of the Jedi &amp; <b>more</b>",
        "year": "1983",
        "genres": "",
        "image": "no.png",
    },
]
EVENTS = [
    {
        "user_id": user,
        "item_id": row["item_id"],
        "rating": float(1 + (user_number + n) % 5),
        "timestamp": 881_250_949 + 60 * n,
    }
    for user_number, user in enumerate(("196", "186", "22", "244"))
    for n, row in enumerate(ITEMS)
]
CATALOG = Catalog.from_rows(ITEMS)
VECTORS = np.arange(24, dtype=np.float32).reshape(6, 4) / 7


def delimited(rows, delimiter, ends=""):
    lines = [delimiter.join(f"{name}{ends and ends[n]}" for n, name in enumerate(rows[0]))]
    for row in rows:
        values = [str(value).replace('"', '""') for value in row.values()]
        quote = '"' if delimiter == "," else ""
        lines.append(delimiter.join(f"{quote}{v}{quote}" if delimiter in v or '"' in v else v for v in values))
    return ("\n".join(lines) + "\n").encode()


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(columns):
    buffer = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), buffer)
    return buffer.getvalue()


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@cache
def movielens_files(release):
    titles = [(row["item_id"], f"{row['title']} ({row['year']})".replace('"', ""), row["genres"]) for row in ITEMS]
    events = [(e["user_id"], e["item_id"], int(e["rating"]), e["timestamp"]) for e in EVENTS]
    if release == "100k":
        flags = "|".join("01"[n % 2] for n in range(len(_GENRES)))
        films = "".join(f"{item}|{title}|01-Jan-1995||http://x|{flags}\n" for item, title, _ in titles)
        return {"ml/u.item": films, "ml/u.data": "".join("\t".join(map(str, e)) + "\n" for e in events)}
    if release == "1m":
        films = "".join("::".join(film) + "\n" for film in titles)
        return {"ml/movies.dat": films, "ml/ratings.dat": "".join("::".join(map(str, e)) + "\n" for e in events)}
    films = "movieId,title,genres\n" + "".join(f'{item},"{title}",{genres}\n' for item, title, genres in titles)
    rows = "userId,movieId,rating,timestamp\n" + "".join(",".join(map(str, e)) + "\n" for e in events)
    return {"ml/movies.csv": films, "ml/ratings.csv": rows}


def click_table():
    columns = {"user": pa.array([0, 1, 2], pa.int32()), "item": pa.array([3, 0, 5], pa.int32())}
    columns |= {"label": [True, False, True], "history": pa.array([[1], [2, 3], []], pa.list_(pa.int32()))}
    return columns | {"time": [5, 6, 7]}


@cache
def files():
    """(what it is read as, name of the file, content)."""
    vectors = {f"v{n}": VECTORS[:, n].tolist() for n in range(4)}
    table = {"item_id": [row["item_id"] for row in ITEMS], **vectors}
    features = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    lists = {"item_id": table["item_id"], "vector": VECTORS.tolist()}
    found = []
    for kind, rows, types in (
        ("items", ITEMS, (":token", ":token_seq", ":token", ":token_seq", ":token")),
        ("events", EVENTS, (":token", ":token", ":float", ":float")),
        ("features", features, (":token", *[":float"] * 4)),
    ):
        atomic = ".inter" if kind == "events" else ".item"
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        found += [(kind, "x.csv", delimited(rows, ",")), (kind, "x.tsv", delimited(rows, "\t"))]
        found += [(kind, "x.jsonl", json_lines(rows)), (kind, "x.json", json.dumps(rows).encode())]
        found += [(kind, "x.parquet", parquet(columns)), (kind, "x" + atomic, delimited(rows, "\t", types))]
        found += [(kind, f"{name}.gz", gzip.compress(content, mtime=0)) for _, name, content in found[-6:]]
    for release in ("100k", "1m", "latest"):
        found += [(kind, "x.zip", archive(movielens_files(release))) for kind in ("items", "events")]
    found += [("features", "x.npy", npy(VECTORS)), ("features", "x.safetensors", save_tensors({"vectors": VECTORS}))]
    found += [("features", "x.parquet", parquet(lists)), ("clicks", "train.parquet", parquet(click_table()))]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "sub").mkdir()
    for name in ("1.png", "sub/50.png"):
        (folder / name).write_bytes(b"a picture")
    (folder / "items.jsonl").write_bytes(json_lines(ITEMS))
    (folder / "events.jsonl").write_bytes(json_lines(EVENTS))
    for name in ("valid", "test"):
        (folder / f"{name}.parquet").write_bytes(parquet(click_table()))
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


DEEP = [json.loads("[" * 90 + "]" * 90), json.loads('{"a":' * 90 + "1" + "}" * 90)]
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


def arrays(num_rows):
    """Arrow's own types, with the ends of their ranges; texts that are no UTF-8."""

    def of(values, kind):
        return pa.array([values[n % len(values)] for n in range(num_rows)], kind)

    numbers = of([0, 1, -1], pa.int64())
    broken = pa.array([b"\xff\xfe"] * num_rows, pa.binary()).view(pa.string())
    return [
        of([1.0, 2.5], pa.float32()).cast(pa.float16()),
        of([1.0, None], pa.float64()),
        of([2**64 - 1, 5], pa.uint64()),
        of([2**63 - 1, -(2**63)], pa.int64()),
        of([-128, None], pa.int8()),
        of([True, False], pa.bool_()),
        of(["a", "b", ""], pa.large_string()),
        of(["1", "12"], pa.string_view()),
        of([b"1", b"\xff"], pa.binary()),
        broken,
        of([2**31 - 1, -(2**31)], pa.int32()).view(pa.date32()),
        numbers.view(pa.date64()),
        numbers.view(pa.duration("ns")),
        *(
            of([2**63 - 1, -(2**62)], pa.int64()).view(pa.timestamp(unit, zone))
            for unit in ("ms", "us", "ns")
            for zone in (None, "UTC")
        ),
        of([0, 5], pa.int64()).view(pa.timestamp("us", "Mars/Crater")),
        of([0, 5], pa.int64()).view(pa.time64("us")),
        of([1, 2], pa.int64()).cast(pa.decimal128(38, 10)),
        pa.nulls(num_rows),
        of(["1", "12"], pa.string()).dictionary_encode(),
        of([1.5, None], pa.float64()).dictionary_encode(),
        of([{"a": 1, "b": None}, None], pa.struct({"a": pa.int64(), "b": pa.string()})),
        of([["1", "12"], [], None], pa.list_(pa.string())),
        of([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
        of([["1"]], pa.large_list(pa.string())),
        of([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        of([[{"a": None}]], pa.list_(pa.struct({"a": pa.string()}))),
        of([[1e308, None]], pa.list_(pa.float64())),
        pa.array(np.full(num_rows, 1e39)),
        pa.array(np.full(num_rows, np.nan, np.float16)),
    ]


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
