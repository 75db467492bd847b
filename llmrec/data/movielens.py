"""MovieLens: reading the official archives, and fetching MovieLens-100K into the cache. Never part of the package."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from llmrec.data.columns import listed
from llmrec.data.reading import reading
from llmrec.errors import DataError
from llmrec.files import atomic_folder, cache_dir, read_json, write_json

TERMS = (
    "MovieLens data (GroupLens, University of Minnesota): research use only; no redistribution and no commercial use "
    "without permission; cite F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015. "
    "See https://grouplens.org/datasets/movielens/."
)
_ARCHIVE = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_WHEEL = "recbole==1.2.1"  # carries MovieLens-100K as example data
_WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
# The order of the flags in u.item.
_GENRE_FLAGS = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
_GENRES = _GENRE_FLAGS.split("|")
_ARTICLE = re.compile(
    r"(.+), (The|A|An|Le|La|Les|L'|Un|Une|El|Los|Las|Il|Lo|I|Gli|Der|Die|Das|Ein|Eine|Det|Den|De|O|Os)"
)
_YEAR = re.compile(r"\s*\((\d{4})(?:-\d{0,4})?\)\s*$")
_AGAIN = "Download it again."
# The files of items and ratings in the archives of 100K, of 1M and 10M, and of all later ones.
_KNOWN = {"u.item": "u.data", "movies.dat": "ratings.dat", "movies.csv": "ratings.csv"}


def tidy_title(title: str) -> str:
    """Put articles first: "Usual Suspects, The" -> "The Usual Suspects", also within parentheses."""
    return re.sub(r"[^()]+", lambda part: _article_first(part.group()), title)


def _article_first(part: str) -> str:
    words = part.strip()
    match = _ARTICLE.fullmatch(words)
    if not match:
        return part
    rest, article = match.groups()
    return part.replace(words, f"{article}{'' if article.endswith(chr(39)) else ' '}{rest}")


def split_year(title: str) -> tuple[str, str | None]:
    """("Toy Story (1995)") -> ("Toy Story", "1995"); None where no year ends the title."""
    match = _YEAR.search(title)
    return (title[: match.start()], match.group(1)) if match else (title.strip(), None)


def read_archive_items(path: Path) -> pa.Table:
    """item_id, title, year, genres of a MovieLens archive (100k, 1m, 10m, 20m, 25m, 32m, latest). DataError if none."""
    name, content = _member(path, items=True)
    if name == "u.item":
        rows = [line.split("|") for line in _lines(content.decode("latin-1"))]
        width, what = 5 + len(_GENRES), "|"
    elif name == "movies.dat":
        try:
            text = content.decode("utf-8")  # 10M
        except UnicodeDecodeError:
            text = content.decode("latin-1")  # 1M
        rows, width, what = [line.split("::") for line in _lines(text)], 3, "::"
    else:
        _check_header(path, content, b"movieId,title,genres")
        with _reading_member(path, name):
            rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8"))) if row][1:]
        width, what = 3, ","
    if not rows:
        raise DataError(f"'{path}' holds {name} without a film in it. {_AGAIN}")
    odd = next((number for number, row in enumerate(rows, start=1) if len(row) != width), None)
    if odd is not None:
        raise DataError(
            f"'{path}': film {odd} in {name} has {len(rows[odd - 1])} fields with '{what}' between them, but {width} were expected. "
            f"{_AGAIN}"
        )
    genres = [_genres(row) for row in rows]
    titles, years = zip(*(split_year(row[1]) for row in rows), strict=True)
    return pa.table(
        {
            "item_id": pa.array([row[0] for row in rows]),
            "title": pa.array([tidy_title(title) for title in titles]),
            "year": pa.array(years, pa.string()),
            "genres": pa.array(genres, pa.list_(pa.string())),
        }
    )


def _genres(row: list[str]) -> list[str]:
    """Of a film's fields: flags of u.item, or the names between bars."""
    if len(row) > 3:
        names = [genre for genre, flag in zip(_GENRES, row[5:], strict=True) if flag == "1"]
    else:
        names = row[2].split("|")
    return [name for name in names if name not in ("", "unknown", "(no genres listed)")]


def read_archive_interactions(path: Path) -> pa.Table:
    """user_id, item_id, rating, timestamp of a MovieLens archive, in its order. Raises DataError if it is none."""
    name, content = _member(path, items=False)
    names = ["user_id", "item_id", "rating", "timestamp"]
    if name == "ratings.csv":
        _check_header(path, content, b"userId,movieId,rating,timestamp")
    # "1::1193::5::978300760" read with the delimiter ":" has an empty column between every two.
    columns, delimiter, skip = {
        "u.data": (names, "\t", 0),
        "ratings.dat": (["user_id", "_1", "item_id", "_2", "rating", "_3", "timestamp"], ":", 0),
        "ratings.csv": (names, ",", 1),
    }[name]
    text = pa.dictionary(pa.int32(), pa.string())
    with _reading_member(path, name):
        return arrow_csv.read_csv(
            pa.BufferReader(content),
            arrow_csv.ReadOptions(column_names=columns, skip_rows=skip),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(
                include_columns=names,
                column_types={"user_id": text, "item_id": text, "rating": pa.float64(), "timestamp": pa.int64()},
            ),
        )


def _reading_member(path: Path, name: str) -> AbstractContextManager[None]:
    return reading(f"'{path}': {name}", "a table of MovieLens", advice=_AGAIN)


def _member(path: Path, items: bool) -> tuple[str, bytes]:
    """Name without folder and content of the archive's file of items or of ratings."""
    inside = {}
    # RuntimeError: encrypted. NotImplementedError: a compression that zipfile lacks. ValueError: offsets outside the file.
    broken = (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, lzma.LZMAError, struct.error)
    with reading(path, "a whole zip archive", *broken, advice=_AGAIN), zipfile.ZipFile(path) as archive:
        inside = {Path(name).name: name for name in archive.namelist()}
        for of_items, of_ratings in _KNOWN.items():
            if of_items in inside and of_ratings in inside:
                name = of_items if items else of_ratings
                return name, archive.read(inside[name])
    raise DataError(
        f"'{path}' is not a MovieLens archive: expected u.item and u.data, or movies and ratings as .dat or .csv, "
        f"but it holds {listed(sorted(inside)) if inside else 'nothing'}. Unpack other archives and name the files inside."
    )


def _lines(text: str) -> list[str]:
    # Not splitlines: it also splits at characters that titles may hold.
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _check_header(path: Path, content: bytes, expected: bytes) -> None:
    header = content.split(b"\n", 1)[0].strip()
    if header != expected:
        raise DataError(
            f"'{path}' holds files named like MovieLens's, but with the columns {header[:200].decode('utf-8', 'replace')} "
            f"instead of {expected.decode()}. Unpack it and name the files inside."
        )


def movielens_100k() -> tuple[Path, Path, str]:
    """Paths of the items (jsonl) and interactions (tsv) of MovieLens-100K, and the terms that it comes under.

    From the official archive where that answers within 3 seconds, else from the atomic files in the wheel of RecBole;
    both give the same films and events. Kept in `cache_dir()`; the terms are printed (stderr) when it
    is fetched. Raises DataError where neither source can be reached.
    """
    folder = cache_dir() / "movielens-100k"
    paths = folder / "items.jsonl", folder / "interactions.tsv"
    if not (folder / "source.json").is_file():
        print(TERMS, file=sys.stderr)
        with tempfile.TemporaryDirectory() as download, atomic_folder(folder) as new:
            archive = Path(download) / "ml-100k.zip"
            if _reached(_ARCHIVE, archive):
                source, items, events = _ARCHIVE, read_archive_items(archive), read_archive_interactions(archive)
            else:
                source, (items, events) = f"the wheel {_WHEEL}", _from_wheel(Path(download))
            if (items.num_rows, events.num_rows) != (1682, 100_000):
                raise DataError(
                    f"MovieLens-100K should have 1682 films and 100000 ratings, but {source} gave {items.num_rows} and "
                    f"{events.num_rows}. Try again, or pass your own files."
                )
            _write(new, items, events)
            write_json(new / "source.json", {"source": source, "terms": TERMS})
    return *paths, read_json(folder / "source.json", "note on the source of MovieLens-100K")["terms"]


def _write(folder: Path, items: pa.Table, events: pa.Table) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in items.to_pylist()]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = ["user_id", "item_id", "rating", "timestamp"]
    rows = zip(*(events[name].to_pylist() for name in columns), strict=True)
    lines = ["\t".join(columns), *(f"{user}\t{item}\t{rating:g}\t{time:.0f}" for user, item, rating, time in rows)]
    (folder / "interactions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _reached(url: str, path: Path) -> bool:
    """Whether the file could be downloaded; a host that does not answer within 3 seconds counts as unreachable."""
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            path.write_bytes(response.read())
    except (urllib.error.URLError, OSError):
        return False
    return zipfile.is_zipfile(path)


def _from_wheel(download: Path) -> tuple[pa.Table, pa.Table]:
    """The items and events of the atomic files that RecBole's wheel carries (downloaded, not installed)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(download), _WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = next(download.glob("recbole-*.whl"), None)
    if done.returncode or wheel is None:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(
            f"MovieLens-100K could not be fetched: {_ARCHIVE} does not answer and `pip download {_WHEEL}` failed "
            f"({last_line}). Go online, or pass your own files with --items and --interactions."
        )
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != _WHEEL_SHA256:
        raise DataError(
            f"the wheel {_WHEEL} that pip fetched is not the known one (its SHA-256 differs). Pass your own files."
        )
    with zipfile.ZipFile(wheel) as archive:
        films, ratings = (
            _lines(archive.read(f"recbole/dataset_example/ml-100k/ml-100k.{kind}").decode("utf-8"))[1:]
            for kind in ("item", "inter")
        )
    rows = [line.split("\t") for line in films]
    items = pa.table(
        {
            "item_id": [row[0] for row in rows],
            # One film has no name: "unknown" in the official archive, misspelt here, its year likewise.
            "title": [tidy_title(row[1].replace("unkonwn", "unknown")) for row in rows],
            "year": pa.array([row[2] if row[2].isdigit() else None for row in rows], pa.string()),
            "genres": pa.array(
                [[g for g in row[3].split() if g in _GENRES[1:]] for row in rows], pa.list_(pa.string())
            ),
        }
    )
    users, seen, scores, times = zip(*(line.split("\t") for line in ratings), strict=True)
    events = {"user_id": users, "item_id": seen, "rating": map(float, scores), "timestamp": map(int, map(float, times))}
    return items, pa.table({name: pa.array(list(values)) for name, values in events.items()})
