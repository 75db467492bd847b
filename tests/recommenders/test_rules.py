"""Rules: what the catalogue's columns, stock, exclusions and candidate lists leave, always as the same array."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.errors import RequestError
from llmrec.recommenders.rules import Condition, ItemRules

FILMS = [
    {"item_id": "a", "title": "Alien", "year": 1979, "genres": ["Horror", "Sci-Fi"], "stocked": True, "price": 9.5},
    {"item_id": "b", "title": "Big", "year": 1988, "genres": ["Comedy"], "stocked": False, "price": 7.0},
    {"item_id": "c", "title": "Clue", "year": 1985, "genres": ["Comedy", "Horror"], "stocked": True, "price": None},
    {"item_id": "d", "title": "Dune", "year": None, "genres": None, "stocked": None, "price": -1.25},
    {"item_id": "e", "title": "Elf", "year": 2003, "genres": ["Comedy", "Toys, Games"], "stocked": True, "price": 1e3},
]


@pytest.fixture
def rules() -> ItemRules:
    return ItemRules(Catalog.from_rows(FILMS))


def left(rules: ItemRules, **asked) -> str:
    """The ids of the items that are left, one letter each."""
    return "".join(rules.catalog.item_ids[item] for item in rules.items(**asked))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("genres=Comedy", "bce"),
        ("genres = comedy ", "bce"),  # case and spaces are one
        ("genres=Sci-Fi|Toys, Games", "ae"),
        ("genres!=Horror", "bde"),  # without a value: none of them is Horror
        ("genres!=Horror|Comedy", "d"),
        ("year>=1985", "bce"),
        ("year>1985", "be"),
        ("year<=1985", "ac"),
        ("year < 1985", "a"),
        ("year=1985", "c"),
        ("price>=-2", "abde"),
        ("price<1e1", "abd"),
        ("title=ALIEN", "a"),
        ("Genres=Horror", "ac"),  # a column is found in any case
        (["genres=Comedy", "year>=1988"], "be"),
        ([Condition("genres", "=", ("Comedy",)), "year<2000"], "bc"),
    ],
)
def test_a_condition_leaves_the_items_it_says(rules, where, expected):
    assert left(rules, where=where) == expected


def test_stock_is_a_list_of_ids_or_a_column(rules):
    assert left(rules, in_stock=["e", "a", "sold elsewhere"]) == "ae"
    assert left(rules, in_stock=frozenset({"b"})) == "b"
    assert left(rules, in_stock="stocked") == "ace"


def test_exclusions_and_candidates_go_together_with_the_rest(rules):
    assert left(rules, exclude=["a", "c"]) == "bde"
    assert left(rules, candidates=["e", "b", "b"]) == "be"
    assert left(rules, candidates=["e", "b", "a"], where="genres=Comedy", in_stock="stocked", exclude=["c"]) == "e"


def test_no_rules_leave_everything_without_an_array(rules):
    assert rules.items() is None and rules.items(where=[], exclude=[]) is None


def test_the_same_filter_gives_the_same_object_and_nobody_can_change_it(rules):
    stock = ("a", "b")
    first = rules.items(where="genres=Comedy", in_stock=stock)
    assert rules.items(where=["genres=Comedy"], in_stock=stock) is first
    assert rules.items(where=["genres=Comedy"], in_stock=["a", "b"]) is first  # equal ids, another list
    assert rules.items(where="genres=Comedy", in_stock=("b", "c")) is not first
    assert (first.dtype, first.tolist()) == (np.int32, [1])
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_a_list_that_changed_is_another_filter(rules):
    stock = ["a"]
    assert left(rules, in_stock=stock) == "a"
    stock[0] = "b"
    assert left(rules, in_stock=stock) == "b"


def test_old_filters_are_forgotten_and_made_again(rules):
    first = rules.items(where="year>=1985")
    for year in range(1900, 1940):
        rules.items(where=f"year>={year}")
    again = rules.items(where="year>=1985")
    assert again is not first and again.tolist() == first.tolist()


def test_a_new_catalogue_has_filters_of_its_own():
    turned = ItemRules(Catalog.from_rows(FILMS[::-1]))
    assert left(turned, where="genres=Comedy") == "ecb"


@given(
    st.lists(
        st.tuples(
            st.none() | st.lists(st.none() | st.sampled_from(["x", "Y", "10", "3.5", ""]), max_size=3),
            st.none() | st.sampled_from(["1", "2", "-3", "word", " 7 "]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["tags=x", "tags!=y", "tags>=4", "number>1", "number<=2", "number!=word", "number=2|word"]),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_a_filter_equals_a_loop_over_the_items(rows, where, chunk):
    table = pa.table(
        {
            "item_id": [str(item) for item in range(len(rows))],
            "title": [""] * len(rows),
            "tags": pa.array([tags for tags, _ in rows], pa.list_(pa.string())),
            "number": pa.array([number for _, number in rows], pa.string()),
        }
    )
    parts = [table.slice(start, chunk) for start in range(0, len(rows), chunk)]  # offsets that do not start at 0
    rules, condition = ItemRules(Catalog(pa.concat_tables(parts))), Condition.parse(where)
    expected = []
    for item, (tags, number) in enumerate(rows):
        values = [value for value in ((tags or []) if condition.column == "tags" else [number]) if value is not None]
        if condition.operator in ("=", "!="):
            hit = any(value.strip().lower() in condition.values for value in values)
            expected += [item] if hit == (condition.operator == "=") else []
        else:
            limit = float(condition.values[0])
            compare = {">=": float.__ge__, ">": float.__gt__, "<=": float.__le__, "<": float.__lt__}[condition.operator]
            expected += [item] if any(compare(number, limit) for number in map(_number, values)) else []
    try:
        assert rules.items(where=where).tolist() == expected
    except RequestError as error:
        assert expected == [] or "no item has" in str(error)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"where": "genre=Comedy"}, "no column 'genre' to filter by. The nearest are: 'genres'"),
        ({"where": "genres=Comdy"}, "no item has 'Comdy' as its genres. The nearest values are: 'Comedy'"),
        ({"where": "genres>=3"}, "'genres' holds no numbers, but words such as 'Horror'; compare it with = or !="),
        ({"where": "year>=soon"}, "'>=' compares with one number, but 'year>=soon' gives 'soon'"),
        ({"where": "year>=1|2"}, "compares with one number"),
        ({"where": "year"}, "should read like genres=Comedy|Drama"),
        ({"where": "=1985"}, "should read like"),
        ({"where": "year="}, "should read like"),
        ({"where": "title=\udcff"}, r"no item has '\?' as its title"),
        ({"where": ["year>2000", "genres=Horror"]}, "none of the 5 items is left by: year>2000, genres=Horror. Loosen"),
        ({"in_stock": ["zz"]}, "none of the 5 items is left by: in stock"),
        ({"in_stock": []}, "none of the 5 items is left by: in stock"),
        ({"in_stock": [3]}, "holds 3, a int"),
        ({"in_stock": "stock"}, "no column 'stock' to filter by. The nearest are: 'stocked'"),
        ({"exclude": ["aa"]}, "no item id 'aa'. The nearest ids are: 'a'"),
        ({"exclude": "a"}, r"one text came. Write \['a'\]"),
        ({"exclude": list("abcde")}, "none of the 5 items is left by: 5 excluded"),
        ({"candidates": []}, "list of candidates is empty"),
        ({"candidates": ["a"], "where": "genres=Comedy"}, "left by: genres=Comedy, 1 candidates"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(rules, asked, sentence):
    with pytest.raises(RequestError, match=sentence.replace("|", r"\|")):
        rules.items(**asked)


def test_a_refused_filter_is_refused_again(rules):
    for _ in range(2):
        with pytest.raises(RequestError, match="none of the 5 items"):
            rules.items(where="year>2010")
