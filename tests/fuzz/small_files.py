"""Small real files of every format that the product reads, and columns of every type that Arrow has."""

import gzip
import io
import json
import zipfile
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save as save_tensors

from llmrec.data.catalog import Catalog
from llmrec.data.movielens import _GENRES

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


def ctr_table():
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
    found += [("features", "x.parquet", parquet(lists)), ("clicks", "train.parquet", parquet(ctr_table()))]
    return found


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
