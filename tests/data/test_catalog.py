import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.errors import DataError, RequestError

ROWS = [
    {"item_id": "a1", "title": "Toy Story", "genres": ["Animation", "Comedy"], "year": 1995},
    {"item_id": "a2", "title": None, "genres": None, "year": None},
    {"item_id": "b9", "title": "Heat", "genres": [], "year": 1995},
]


def test_fields_are_text_or_lists_of_text_and_missing_titles_are_counted():
    catalog = Catalog.from_rows(ROWS)
    assert (catalog.num_items, catalog.item_ids, catalog.titles) == (3, ["a1", "a2", "b9"], ["Toy Story", "", "Heat"])
    assert catalog.fields == ["title", "genres", "year"] and catalog.num_untitled == 1
    assert [catalog.text(0, field) for field in catalog.fields] == ["Toy Story", "Animation, Comedy", "1995"]
    assert [catalog.text(1, field) for field in catalog.fields] == ["", "", ""]


def test_texts_for_encoders_hold_the_fields_that_an_item_has():
    catalog = Catalog.from_rows(ROWS)
    assert catalog.texts() == ["Toy Story. genres: Animation, Comedy. year: 1995", "", "Heat. year: 1995"]
    assert catalog.texts(["year", "title"])[0] == "year: 1995. Toy Story"


def test_ids_are_looked_up_and_unknown_ones_named_with_the_nearest():
    catalog = Catalog.from_rows(ROWS)
    assert catalog.index(["b9", "a1", "b9"]).tolist() == [2, 0, 2] and catalog.index([]).dtype == np.int32
    with pytest.raises(RequestError, match=r"no item id 'b8'\. The nearest ids are: 'b9'"):
        catalog.index(["a1", "b8"])
    with pytest.raises(RequestError, match="should come as a list"):
        catalog.index("a1")


def test_saved_and_loaded_is_the_same_and_hashes_the_same(tmp_path):
    catalog = Catalog.from_rows(ROWS)
    catalog.save(tmp_path / "items.parquet")
    loaded = Catalog.load(tmp_path / "items.parquet")
    assert loaded.table.equals(catalog.table) and loaded.content_hash == catalog.content_hash
    changed = Catalog.from_rows([ROWS[0] | {"title": "Toy Story 2"}, *ROWS[1:]])
    assert changed.content_hash != catalog.content_hash


def test_the_hash_does_not_depend_on_how_arrow_cut_the_table():
    table = Catalog.from_rows(ROWS).table
    in_chunks = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert Catalog(in_chunks).content_hash == Catalog(table).content_hash


def test_a_truncated_catalog_is_refused(tmp_path):
    Catalog.from_rows(ROWS).save(tmp_path / "items.parquet")
    whole = (tmp_path / "items.parquet").read_bytes()
    (tmp_path / "items.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"could not be read as the catalog: .* Prepare the data again"):
        Catalog.load(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="there is no file") as raised:
        Catalog.load(tmp_path / "missing.parquet")
    assert ".." not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": ["a"], "title": ["x"]}, "need a column 'item_id' but have only: id, title"),
        ({"item_id": ["a"], "name": ["x"]}, "need a column 'title' but have only: item_id, name"),
        ({"item_id": ["a", "b", "a"], "title": ["x"] * 3}, r"stand more often: 'a' \(2 times\)"),
        ({"item_id": ["a", None, " "], "title": ["x"] * 3}, r"2 of 3 items have none \(the first is row 2\)"),
        ({"item_id": [1.0, float("nan")], "title": ["x"] * 2}, "1 of 2 items have none"),
        ({"item_id": ["a"], "title": [["x", "y"]]}, "'title' of the items should hold one text"),
    ],
)
def test_items_that_cannot_be_used_are_refused_in_words(columns, sentence):
    with pytest.raises(DataError, match=sentence):
        Catalog(pa.table(columns))


def test_an_unknown_field_is_refused_naming_the_known_ones():
    with pytest.raises(DataError, match=r"no column 'brand' \(it has: item_id, title, genres, year\)"):
        Catalog.from_rows(ROWS).texts(["brand"])


def test_odd_columns_become_text():
    catalog = Catalog.from_rows(
        [
            {"item_id": 1, "title": "x", "price": 1.5, "size": {"w": 1}, "tags": [1, 2.5], "on": True, "none": None},
            {"item_id": "2", "title": "y", "price": float("nan"), "size": None, "tags": None, "on": None, "none": None},
        ]
    )
    assert catalog.item_ids == ["1", "2"]
    assert [catalog.text(0, field) for field in catalog.fields] == ["x", "1.5", '{"w": 1}', "1, 2.5", "True", ""]
    assert [catalog.text(1, field) for field in catalog.fields] == ["y", "", "", "", "", ""]


def test_single_items_are_read_without_the_rest():
    catalog = Catalog.from_rows(ROWS)
    assert [catalog.item_id(item) for item in range(3)] == catalog.item_ids
    assert [catalog.title(np.int32(item)) for item in range(3)] == catalog.titles
    assert catalog.contains(["b9", "b8", "", "\ud800"]).tolist() == [True, False, False, False]
    assert catalog.num_longer("title", 4) == 1 and catalog.num_longer("genres", 5) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), unique=True, max_size=30), st.data()
)
def test_every_id_finds_its_item_and_no_other_text_does(item_ids, data):
    columns = {name: pa.array(values, pa.string()) for name, values in (("item_id", item_ids), ("title", item_ids))}
    table = pa.table(columns)
    cut = data.draw(st.integers(0, len(item_ids)))
    catalog = Catalog(pa.concat_tables([table.slice(0, cut), table.slice(cut)]))
    assert catalog.index(item_ids).tolist() == list(range(len(item_ids)))
    asked = data.draw(st.lists(st.text()))
    assert catalog.contains(asked).tolist() == [text in item_ids for text in asked]


def test_ids_and_titles_stay_in_arrows_buffers():
    catalog = Catalog.from_rows(ROWS)
    catalog.index(["a1"])
    held = [value for value in vars(catalog).values() if isinstance(value, list | dict | set | tuple)]
    assert not held, "a million Python texts take hundreds of megabytes"


def test_items_of_another_catalog_stand_after_its_own_in_its_columns():
    new = Catalog.from_rows([{"item_id": "c1", "title": "Heat 2", "genres": "Crime", "brand": "x"}])
    grown = Catalog.from_rows(ROWS).extend(new)
    assert grown.item_ids == ["a1", "a2", "b9", "c1"] and grown.fields == ["title", "genres", "year"]
    assert [grown.text(3, field) for field in grown.fields] == ["Heat 2", "Crime", ""]
    assert grown.index(["c1"]).tolist() == [3]
    as_lists = Catalog.from_rows([{"item_id": "c1", "title": "x", "year": ["1995", "1996"]}])
    assert Catalog.from_rows(ROWS).extend(as_lists).text(3, "year") == "1995, 1996"
    with pytest.raises(DataError, match="1 of 1 new items are in the catalog of 4 items already: 'c1'"):
        grown.extend(new)


def test_members_without_a_value_do_not_exist():
    details = [{"Brand": "X", "size": {"w": None}}, {"Volt": "12", "Watt": "5", "Brand": None}, {}, None]
    catalog = Catalog.from_rows(
        [{"item_id": str(n), "title": "T", "details": value} for n, value in enumerate(details)]
    )
    assert catalog.texts() == ['T. details: {"Brand": "X"}', 'T. details: {"Volt": "12", "Watt": "5"}', "T", "T"]
    lists = Catalog.from_rows(
        [
            {"item_id": "1", "title": "T", "parts": [{"a": "x"}, {"b": None}]},
            {"item_id": "2", "title": "T", "parts": []},
        ]
    )
    assert lists.texts() == ['T. parts: {"a": "x"}', "T"]


def test_columns_without_a_name_are_left_out_and_those_without_words_stay_out_of_texts():
    rows = [
        {"": n, "Unnamed: 0": n, "item_id": str(n), "title": f"Film {n}", "link": f"https://x.org/{n}", "cover": f"covers/{n}.jpg",
         "images": {"large": f"https://x.org/{n}.jpg", "kind": "MAIN"}, "vector": [0.1, 0.2, 0.3, n], "numbers": f"[0.1 -2e-3 3 {n}]",
         "about": f"See https://x.org/{n} for a long description of this film.", "size": [1, 2], "year": 1990 + n}
        for n in range(3)
    ]  # fmt: skip
    catalog = Catalog.from_rows(rows)
    assert catalog.num_unnamed == 2 and "" not in catalog.fields
    addresses = {
        "link": "addresses",
        "images": "addresses",
        "cover": "file names",
        "vector": "vectors",
        "numbers": "vectors",
    }
    assert catalog.no_words == addresses and catalog.word_fields == ["title", "about", "size", "year"]
    about = "See https://x.org/1 for a long description of this film."
    assert catalog.texts()[1] == f"Film 1. about: {about}. size: 1, 2. year: 1991"
    assert catalog.texts(["title", "link"])[1] == "Film 1. link: https://x.org/1"


def test_ids_are_quoted_with_their_spaces():
    catalog = Catalog.from_rows(ROWS)
    with pytest.raises(
        RequestError, match=r"no item id ' a1' \(with a space at the start\)\. The nearest ids are: 'a1'"
    ):
        catalog.index([" a1"])
    with pytest.raises(RequestError, match=r"no item id 'a1\\t' \(with a space at the end\)"):
        catalog.index(["a1\t"])
