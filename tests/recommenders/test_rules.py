"""Rules: what the catalogue's columns, stock, exclusions and candidate lists leave, always as the same array."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.errors import RequestError
from llmrec.recommenders import rules as rules_module
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
    choice = rules.choice(**asked)
    items = np.setdiff1d(np.arange(rules.catalog.num_items) if choice.items is None else choice.items, choice.excluded)
    assert choice.num_left == len(items)
    return "".join(rules.catalog.item_ids[item] for item in items)


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
    for choice in (rules.choice(), rules.choice(where=[], exclude=[])):
        assert (choice.items, choice.excluded.tolist(), choice.num_left) == (None, [], 5)


def test_the_same_filter_gives_the_same_object_and_nobody_can_change_it(rules):
    stock = ("a", "b")
    first = rules.choice(where="genres=Comedy", in_stock=stock).items
    assert rules.choice(where=["genres=Comedy"], in_stock=stock).items is first
    assert rules.choice(where=["genres=Comedy"], in_stock=["a", "b"]).items is first  # equal ids, another list
    assert rules.choice(where="genres=Comedy", in_stock=stock, exclude=["c"]).items is first
    assert rules.choice(where="genres=Comedy", in_stock=("b", "c")).items is not first
    assert (first.dtype, first.tolist()) == (np.int32, [1])
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_a_list_that_changed_is_another_filter(rules):
    stock = ["a"]
    assert left(rules, in_stock=stock) == "a"
    stock[0] = "b"
    assert left(rules, in_stock=stock) == "b"


ids_of_films = st.lists(st.sampled_from("abcde"), max_size=7)


@given(
    st.sampled_from([(), "genres=Comedy", ["genres!=Horror", "year>=1985"]]),
    st.none() | ids_of_films | st.just("stocked"),
    ids_of_films,
    st.none() | ids_of_films.filter(len),
    st.sampled_from([0, 2, 4096]),
)
def test_short_lists_and_filters_leave_the_same_in_every_combination(where, in_stock, exclude, candidates, short):
    films = ItemRules(Catalog.from_rows(FILMS))
    expected = set("abcde") if not where else set(left(films, where=where))
    if in_stock is not None:
        expected &= set("ace" if in_stock == "stocked" else in_stock)
    expected &= set("abcde" if candidates is None else candidates)
    expected -= set(exclude)
    asked = {"where": where, "in_stock": in_stock, "exclude": exclude, "candidates": candidates}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules_module, "SHORT_LIST", short)
        for _ in range(2):  # made, then kept
            if expected:
                assert left(films, **asked) == "".join(sorted(expected))
            else:
                with pytest.raises(RequestError, match="none of the 5 items is left"):
                    films.choice(**asked)


def test_short_lists_make_no_array_of_the_catalogues_length_and_push_no_filter_out():
    items = [{"item_id": f"i{item}", "title": "", "kind": str(item % 3)} for item in range(10_000)]
    rules = ItemRules(Catalog.from_rows(items))
    kind = rules.choice(where="kind=1").items
    for first in range(100):
        listed = [f"i{item}" for item in range(first, first + 50)]
        excluding = rules.choice(where="kind=1", exclude=listed)
        assert excluding.items is kind and (excluding.excluded % 3 == 1).all()
        assert len(rules.choice(candidates=listed).items) == 50
        assert rules.choice(exclude=tuple(listed)).items is None
    assert list(map(len, rules._filters.values())) == [len(kind)]
    assert max(map(len, rules._lists.values())) == 50 and len(rules._lists) <= 16


def test_old_filters_are_forgotten_and_made_again(rules):
    first = rules.choice(where="year>=1985").items
    for year in range(1900, 1940):
        rules.choice(where=f"year>={year}")
    again = rules.choice(where="year>=1985").items
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
        assert rules.choice(where=where).items.tolist() == expected
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
        rules.choice(**asked)


def test_a_refused_filter_is_refused_again(rules):
    for _ in range(2):
        with pytest.raises(RequestError, match="none of the 5 items"):
            rules.choice(where="year>2010")


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        (("genres", "~", ("Comedy",)), "takes a column, one of != >= <= = > <, and a tuple of texts"),
        (("genres", "=", "Comedy"), "a tuple of texts"),
        (("genres", "=", ()), "a tuple of texts"),
        (("year", "=", (1985,)), "a tuple of texts"),
        ((None, "=", ("1985",)), "takes a column"),
        (("year", ">", ("soon",)), "'>' compares with one number, but 'year>soon' gives 'soon'"),
    ],
)
def test_a_condition_that_is_none_is_said_in_words(condition, sentence):
    with pytest.raises(RequestError, match=sentence):
        Condition(*condition)


def test_long_texts_that_are_no_condition_are_refused_without_trying_every_way_to_read_them():
    """With one that backtracks, either would take hours."""
    for long in (" " * 100_000, "genres" + " " * 100_000, "year > " + "1" * 100_000 + "x"):
        with pytest.raises(RequestError):
            Condition.parse(long)


def test_a_condition_need_not_stand_in_a_list(rules):
    assert left(rules, where=Condition("genres", "=", ("Comedy",))) == "bce"
