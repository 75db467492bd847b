import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.data.readers import read_interactions, read_items
from llmrec.errors import DataError

ENDINGS = ["csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "parquet.gz", "jsonl.gz"]
# What a data frame writes for "no value" is no id; control characters and line ends do not survive every format.
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8).filter(
    lambda text: text.strip() and text not in ("nan", "NaN", "<NA>")
)


def write_table(path: Path, columns: dict) -> Path:
    """Write columns in the format that the name asks for, as other programs do."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    table = pa.table(columns)
    if plain.suffix == ".parquet":
        pq.write_table(table, plain)
    elif plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
    else:
        delimiter = "," if plain.suffix == ".csv" else "\t"
        arrow_csv.write_csv(table, plain, arrow_csv.WriteOptions(delimiter=delimiter))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(TEXT, TEXT, st.integers(-(2**53), 2**53), st.sampled_from([0.5, 1.0, 4.0, 5.0])),
        min_size=1,
        max_size=5,
    )
)
def test_interactions_come_back_as_they_were_written(tmp_path, ending, rows):
    users, items, times, ratings = (list(column) for column in zip(*rows, strict=True))
    columns = {"user_id": users, "item_id": items, "timestamp": times, "rating": ratings, "note": ["-"] * len(rows)}
    table = read_interactions(write_table(tmp_path / f"events.{ending}", columns))
    assert table.column_names == ["user_id", "item_id", "timestamp", "rating"]
    assert table["user_id"].to_pylist() == users and table["item_id"].to_pylist() == items
    assert table["timestamp"].to_pylist() == times and table["rating"].to_pylist() == ratings


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT, TEXT.filter(lambda text: "|" not in text)), min_size=1, max_size=5))
def test_items_come_back_as_they_were_written(tmp_path, ending, rows):
    item_ids, titles, brands = (list(column) for column in zip(*rows, strict=True))
    columns = {"brand": brands, "asin": item_ids, "name": titles}
    table = read_items(write_table(tmp_path / f"items.{ending}", columns))
    assert table.column_names == ["item_id", "title", "brand"]
    assert table["item_id"].to_pylist() == item_ids
    assert table["title"].to_pylist() == titles and table["brand"].to_pylist() == brands


@pytest.mark.parametrize("ending", ENDINGS)
def test_ids_that_look_like_numbers_keep_their_zeros_and_times_stay_exact(tmp_path, ending):
    time = 1_700_000_000_123_456_789  # nanoseconds: more than a float holds
    columns = {"user": ["007", "7"], "movieId": ["0", "00"], "time": [time, time + 1]}
    table = read_interactions(write_table(tmp_path / f"e.{ending}", columns))
    assert table["user_id"].to_pylist() == ["007", "7"] and table["item_id"].to_pylist() == ["0", "00"]
    assert table["timestamp"].to_pylist() == [time, time + 1]


def test_ids_that_a_data_frame_made_numbers_are_read_as_whole_ones(tmp_path):
    pq.write_table(pa.table({"user_id": [1.0, 20.0], "item_id": pa.array([3, 4], pa.int32())}), tmp_path / "e.parquet")
    table = read_interactions(tmp_path / "e.parquet")
    assert table["user_id"].to_pylist() == ["1", "20"] and table["item_id"].to_pylist() == ["3", "4"]
    (tmp_path / "e.jsonl").write_text('{"user": 1, "item": "a"}\n{"user": "x", "item": 2}\n')
    assert read_interactions(tmp_path / "e.jsonl")["user_id"].to_pylist() == ["1", "x"]


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        ("reviewerID,asin,overall,unixReviewTime", ["user_id", "item_id", "timestamp", "rating"]),
        ("user_id,parent_asin,asin,Rating,timestamp", ["user_id", "item_id", "timestamp", "rating"]),
        ("userId,movieId,rating,timestamp", ["user_id", "item_id", "timestamp", "rating"]),
        ("user,item,step", ["user_id", "item_id", "step"]),
        ("USER-ID;Item Id", ["user_id", "item_id"]),
    ],
)
def test_common_spellings_are_known(tmp_path, names, canonical):
    separator = ";" if ";" in names else ","
    count = len(names.split(separator))
    (tmp_path / "e.csv").write_text(names + "\n" + separator.join("123456789"[:count]) + "\n")
    table = read_interactions(tmp_path / "e.csv")
    assert table.column_names == canonical and table["item_id"].to_pylist() == ["2"]


def test_the_user_may_say_which_column_serves(tmp_path):
    (tmp_path / "e.csv").write_text("buyer,item_id,sku,when\n1,2,3,4\n")
    table = read_interactions(tmp_path / "e.csv", {"user_id": "buyer", "item_id": "sku", "timestamp": "when"})
    assert [table[name].to_pylist() for name in table.column_names] == [["1"], ["3"], [4]]
    (tmp_path / "i.csv").write_text("item_id,title,keywords\na,T,k\n")
    assert read_items(tmp_path / "i.csv", {"title": "keywords"}).to_pylist() == [
        {"item_id": "a", "title": "k", "original_title": "T"}
    ]
    with pytest.raises(DataError, match=r"no column 'words' to use as title \(it has: item_id, title, keywords\)"):
        read_items(tmp_path / "i.csv", {"title": "words"})


def test_dates_are_times(tmp_path):
    (tmp_path / "e.csv").write_text("user,item,date\n1,2,2024-01-31\n1,3,2024-02-01\n")
    assert read_interactions(tmp_path / "e.csv")["timestamp"].to_pylist() == [1706659200, 1706745600]
    (tmp_path / "e.csv").write_text("user,item,date\n1,2,2024-01-31T00:00:00.500Z\n1,3,2024-01-31 00:00:01Z\n")
    assert read_interactions(tmp_path / "e.csv")["timestamp"].to_pylist() == [1706659200.5, 1706659201.0]
    times = np.array(["2024-01-31T12:00"], "datetime64[ns]")
    pq.write_table(pa.table({"user": ["1"], "item": ["2"], "time": times}), tmp_path / "e.parquet")
    assert read_interactions(tmp_path / "e.parquet")["timestamp"].to_pylist() == [1706702400]


def test_recbole_atomic_files_are_read_without_quoting(tmp_path):
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\t01\t4\t881250949\n"
    )
    assert read_interactions(tmp_path / "x.inter").to_pylist() == [
        {"user_id": "u", "item_id": "01", "timestamp": 881250949, "rating": 4.0}
    ]
    header = "item_id:token\tmovie_title:token_seq\tclass:token_seq\n"
    (tmp_path / "x.item").write_text(header + '01\t"Crocodile" Dundee\tAdventure Comedy\n02\t5" Nails\t\n')
    items = read_items(tmp_path / "x.item").to_pylist()
    assert items[0] == {"item_id": "01", "title": '"Crocodile" Dundee', "class": ["Adventure", "Comedy"]}
    assert items[1]["title"] == '5" Nails'
    (tmp_path / "y.inter").write_text("user_id\titem_id\nu\ti\n")
    with pytest.raises(DataError, match="should have a header of name:type columns"):
        read_interactions(tmp_path / "y.inter")


def test_a_title_of_a_million_characters_is_read(tmp_path):
    title = "x" * 10**6
    for name in ("i.csv", "i.jsonl", "i.parquet"):
        items = read_items(write_table(tmp_path / name, {"item_id": ["1", "2"], "title": ["a", title]}))
        assert items["title"].to_pylist() == ["a", title]


def test_lines_of_json_may_differ_and_lists_stay_lists(tmp_path):
    (tmp_path / "i.jsonl").write_text(
        '{"item_id": 1, "title": "a"}\n\n{"item_id": 2, "title": "b", "genres": ["x", "y"]}\n'
    )
    assert read_items(tmp_path / "i.jsonl").to_pylist()[1] == {"item_id": "2", "title": "b", "genres": ["x", "y"]}
    (tmp_path / "i.json").write_text('[{"item_id": 1, "title": "None"}]')
    assert read_items(tmp_path / "i.json").to_pylist() == [{"item_id": "1", "title": "None"}]


def test_titles_keep_quotes_line_ends_and_words_for_nothing(tmp_path):
    titles = ['say "hi", all', "two\nlines", "None", "NA", ""]
    path = write_table(tmp_path / "i.csv", {"item_id": list("abcde"), "title": titles})
    assert read_items(path)["title"].to_pylist() == titles


BAD_EVENTS = {
    "no user": ("e.csv", "item_id,timestamp\na,1\n", "needs a column 'user_id', but has only: item_id, timestamp"),
    "no header": ("e.tsv", "196\t242\t3\t881250949\n", "has only: 196, 242, 3, 881250949. Is the header line missing?"),
    "empty": ("e.csv", "", "is empty. Expected a header line"),
    "header only": ("e.csv", "user_id,item_id\n", "has a header but no interactions"),
    "lost user": (
        "e.csv",
        "user_id,item_id\na,b\n,c\nnan,d\n",
        r"user_id is missing .* in 2 of 3 rows \(the first is row 2",
    ),
    "lost item": (
        "e.jsonl",
        '{"user_id": "a", "item_id": "b"}\n{"user_id": "a"}\n',
        "item_id is missing .* in 1 of 2 rows",
    ),
    "NaN time": (
        "e.csv",
        "user_id,item_id,time\na,b,1\na,c,NaN\n",
        r"time is missing .* in 1 of 2 rows \(the first is row 2",
    ),
    "NaN time in json": ("e.jsonl", '{"user": "a", "item": "b", "ts": NaN}\n', "ts is missing .* in 1 of 1 rows"),
    "word as time": ("e.csv", "user,item,time\na,b,1\na,c,soon\n", "should be a number or a date .* row 2 has 'soon'"),
    "word as rating": (
        "e.csv",
        "user,item,rating\na,b,good\n",
        "rating should be a number in every row, but row 1 has 'good'",
    ),
    "short row": ("e.csv", "user,item,time\na,b,1\na,c\n", "Expected 3 columns, got 2"),
    "twice": ("e.csv", "user,item,item\na,b,c\n", "has the column 'item' more than once"),
    "broken json": ("e.jsonl", '{"user": "a", "item": "b"}\n{"user": "a", "it', "line 2 of '.*' is not JSON"),
    "no objects": ("e.jsonl", "[1]\n[2]\n", "not valid JSON|should be a JSON object"),
    "ending": ("e.xlsx", "PK", "has no ending that tells its format. Expected one of .csv, .tsv"),
    "latin-1": ("e.csv", "user,item\na,b\xe9\n".encode("latin-1"), "is not UTF-8 text .* Save it as UTF-8"),
    "binary": ("e.csv", b"user\0\0\1", "holds binary data, but its name promises a header line"),
    "zip": ("e.csv", b"PK\x03\x04....", "holds a zip archive, but its name promises"),
    "no gzip": ("e.csv.gz", "user,item\na,b\n", "could not be read .*gzip"),
    "no parquet": ("e.parquet", "user,item\na,b\n", "is named as parquet but does not begin like one"),
}


@pytest.mark.parametrize("instance", BAD_EVENTS)
def test_bad_interactions_are_refused_in_words(tmp_path, instance):
    name, content, sentence = BAD_EVENTS[instance]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_interactions(tmp_path / name)
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["csv.gz", "parquet", "parquet.gz", "jsonl.gz"])
def test_a_truncated_file_is_refused(tmp_path, ending):
    rng = np.random.default_rng(0)
    columns = {"user_id": rng.integers(0, 10**9, 5000).astype(str), "item_id": rng.integers(0, 10**9, 5000).astype(str)}
    path = write_table(tmp_path / f"e.{ending}", columns)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"may be cut short or damaged; copy or export it again|is not JSON"):
        read_interactions(path)


def test_lost_numbers_in_parquet_are_refused_with_their_first_row(tmp_path):
    columns = {"user_id": ["a"] * 3, "item_id": pa.array([1.0, None, 2.0]), "timestamp": [1.0, 2.0, float("inf")]}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"item_id is missing .* in 1 of 3 rows \(the first is row 2\)"):
        read_interactions(tmp_path / "e.parquet")
    pq.write_table(pa.table(columns | {"item_id": [1, 2, 3]}), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"timestamp is missing \(empty, NaN or infinite\) in 1 of 3 rows"):
        read_interactions(tmp_path / "e.parquet")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_items(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"is a folder, but no dataset that dataset\.save_to_disk has written"):
        read_items(tmp_path / "folder.csv")


def test_items_without_title_are_refused_naming_the_option(tmp_path):
    (tmp_path / "i.csv").write_text("item_id,keywords\na,b\n")
    with pytest.raises(DataError, match=r"needs a column 'title', but has only: item_id, keywords.* --title-column"):
        read_items(tmp_path / "i.csv")
    (tmp_path / "i.csv").write_text("code,title\na,b\n")
    with pytest.raises(DataError, match=r"needs a column 'item_id', but has only: code, title.* --catalog-id-column"):
        read_items(tmp_path / "i.csv")
    assert read_items(tmp_path / "i.csv", {"catalog_id": "code"})["item_id"].to_pylist() == ["a"]


def test_a_key_that_later_lines_alone_have_is_read_as_any_other(tmp_path):
    lines = [
        '{"user_id":"u","item_id":"1"}',
        *(json.dumps({"user_id": "u", "item_id": str(n), "timestamp": 9 - n}) for n in (2, 3)),
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"timestamp is missing .* in 1 of 3 rows \(the first is row 1\)"):
        read_interactions(tmp_path / "e.jsonl")
    (tmp_path / "e.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(DataError, match=r"timestamp is missing .* in 1 of 3 rows \(the first is row 3\)"):
        read_interactions(tmp_path / "e.jsonl")
    (tmp_path / "e.jsonl").write_text('{"user_id":"u","asin":"1"}\n{"user_id":"u","parent_asin":"2","asin":"3"}\n')
    with pytest.raises(DataError, match=r"item_id is missing .* in 1 of 2 rows"):  # of the better column
        read_interactions(tmp_path / "e.jsonl")


SONGS = ["One", '"Weird Al', "Three", "Four", 'The "Best"', '"Heroes"', '7" single']


@pytest.mark.parametrize("ending", ["tsv", "csv", "tsv.gz"])
def test_marks_in_a_file_without_quoting_are_letters(tmp_path, ending):
    delimiter = "," if ending == "csv" else "\t"
    text = "".join(f"{item}{delimiter}{title}\n" for item, title in enumerate(SONGS))
    content = f"item_id{delimiter}title\n{text}".encode()
    (tmp_path / f"i.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    items = read_items(tmp_path / f"i.{ending}")
    assert items["title"].to_pylist() == SONGS and items["item_id"].to_pylist() == list("0123456")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ['1,"Weird Al', "2,Two, part 2"],
            "in line 2 a field begins with a quotation mark that is not closed .* line 3 has not 2",
        ),
        (['1,"One" or, two', "2,Two"], "in line 2 a field begins with a quotation mark that is not closed"),
        (
            ["1,One", '2,"Weird Al', '3,Blue Monday 12"'],
            "a quotation mark in line 3 is closed in line 4.*double the marks",
        ),
    ],
)
def test_marks_that_can_be_read_in_no_way_or_in_two_are_refused_by_line(tmp_path, lines, sentence):
    (tmp_path / "i.csv").write_text("item_id,title\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match=sentence):
        read_items(tmp_path / "i.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from('a",\n'), max_size=6), min_size=1, max_size=5), st.booleans())
def test_a_quoted_file_is_read_as_it_was_written_or_refused(tmp_path, titles, all_quoted):
    style = "all_valid" if all_quoted else "needed"
    table = pa.table({"item_id": [str(n) for n in range(len(titles))], "title": titles, "note": ["x"] * len(titles)})
    arrow_csv.write_csv(table, tmp_path / "i.csv", arrow_csv.WriteOptions(quoting_style=style))
    try:
        assert read_items(tmp_path / "i.csv")["title"].to_pylist() == titles
    except DataError as error:
        assert "double the marks" in str(error)


def test_a_list_of_items_is_one_event_an_entry(tmp_path):
    rows = [
        {"user_id": "a", "item_id": ["1", "2"], "timestamp": [5, 6]},
        {"user_id": "b", "item_id": ["2"], "timestamp": [7]},
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    for name in ("e.jsonl", "e.parquet"):
        table = read_interactions(tmp_path / name)
        assert [table[column].to_pylist() for column in table.column_names] == [list("aab"), list("122"), [5, 6, 7]]
    (tmp_path / "e.jsonl").write_text('{"user_id": "a", "item_id": ["1", "2"], "timestamp": [5]}\n')
    with pytest.raises(
        DataError, match="the lists in timestamp should be as long as those in item_id, but in row 1 they have 1 and 2"
    ):
        read_interactions(tmp_path / "e.jsonl")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            '{"user_id": {"$oid": "a"}, "item_id": "1"}',
            r"user_id should be text or a whole number in every row, but row 1 has",
        ),
        (
            '{"user_id": ["a"], "item_id": "1"}',
            "user_id should be text or a whole number in every row, but they are list<",
        ),
        (
            '{"user_id": "a", "item_id": {"id": 1}}',
            "item_id should be text or a whole number in every row, but row 1 has",
        ),
        ('{"user_id": "a", "item_id": null}', "item_id is missing"),
        ('{"user_id": "\\ud800", "item_id": "1"}', "user_id in row 1 holds half of a character"),
        ("[" * 100_000, "has brackets inside brackets to more than 100 levels"),
        ('{"user_id": ' * 100_000, "has brackets inside brackets to more than 100 levels"),
    ],
)
def test_what_is_no_id_is_refused_by_row(tmp_path, line, sentence):
    (tmp_path / "e.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=sentence):
        read_interactions(tmp_path / "e.jsonl")


def test_odd_columns_and_names_are_read_or_refused_in_words(tmp_path):
    halves = pa.array(np.array([1, 2], np.float16))
    pq.write_table(pa.table({"user_id": halves, "item_id": halves, "rating": halves}), tmp_path / "e.parquet")
    assert read_interactions(tmp_path / "e.parquet")["item_id"].to_pylist() == ["1", "2"]
    repeated = pa.Table.from_arrays([pa.array(["a"])] * 3, ["item_id", "title", "title"])
    pq.write_table(repeated, tmp_path / "i.parquet")
    with pytest.raises(DataError, match="has the column 'title' more than once"):
        read_items(tmp_path / "i.parquet")
    (tmp_path / "i.csv").write_text("x" * 200_000 + ",title\n1,a\n")
    with pytest.raises(
        DataError, match="could not be read as a header line and rows of text: field larger than field limit"
    ):
        read_items(tmp_path / "i.csv")
    for path, sentence in (
        (tmp_path / ("x" * 300 + ".csv"), "File name too long"),
        (Path("a\0b.csv"), "holds a null character"),
    ):
        with pytest.raises(DataError, match=sentence):
            read_items(path)


def test_values_joined_by_bars_become_lists(tmp_path):
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres,cast,blurb\n1,A|B,Action|Comedy,X|Y,one | two\n"
        "2,C,(no genres listed),X|Y,three\n3,D,Comedy,Y,four | five six\n"
    )
    items = read_items(tmp_path / "movies.csv")
    assert items["genres"].to_pylist() == [["Action", "Comedy"], [], ["Comedy"]] and items["title"][0].as_py() == "A|B"
    assert items["cast"].to_pylist() == [["X", "Y"], ["X", "Y"], ["Y"]] and items["blurb"][0].as_py() == "one | two"


def test_markup_is_taken_out_on_request(tmp_path):
    titles = ["Tom &amp;amp; Jerry <b>Soap</b>", '<span id="t">Loading</span>', "I <3 U & a < b, List<T>", "<br/>"]
    path = write_table(tmp_path / "i.csv", {"item_id": list("abcd"), "title": titles})
    assert read_items(path)["title"].to_pylist() == titles
    plain = ["Tom & Jerry Soap", "Loading", "I <3 U & a < b, List<T>", "<br/>"]
    assert read_items(path, unescape=True)["title"].to_pylist() == plain
