"""Titles as people type them, on the real films of MovieLens-100K."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.title_search import TitleSearch, normalised


@pytest.fixture(scope="module")
def films(movielens) -> TitleSearch:
    catalog = load_data(movielens).catalog
    search = TitleSearch(catalog)
    search.shown = [f"{title} ({year})" for title, year in zip(catalog.titles, search.years, strict=True)]
    return search


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Star Wars", "Star Wars (1977)"),
        ("usual suspects", "The Usual Suspects (1995)"),
        ("Usual Suspects, The", "The Usual Suspects (1995)"),
        ("SCHINDLERS LIST", "Schindler's List (1993)"),
        ("mash", "M*A*S*H (1970)"),
        ("godfather part 2", "The Godfather: Part II (1974)"),
        ("12 monkeys", "Twelve Monkeys (1995)"),
        ("nenette et boni", "Nénette et Boni (1996)"),
        ("jurasic prak", "Jurassic Park (1993)"),
        ("sabrina 1954", "Sabrina (1954)"),
        ("Sabrina (1995)", "Sabrina (1995)"),
        ("2001", "2001: A Space Odyssey (1968)"),
        ("wrath of khan", "Star Trek: The Wrath of Khan (1982)"),
        ("alien", "Alien (1979)"),
    ],
)
def test_a_title_is_found_however_it_is_spelt(films, typed, meant):
    match = films.find(typed)
    assert match.kind == "sure" and [films.shown[item] for item in match.items] == [meant]


@pytest.mark.parametrize(
    ("typed", "among", "number"),
    [
        ("star trek", "Star Trek: First Contact (1996)", 8),
        ("sabrina", "Sabrina (1954)", 2),
        ("rocky", "The Rock (1996)", 1),
        ("monty python", "Monty Python's Life of Brian (1979)", 2),
        ("the lion king 1995", "The Lion King (1994)", 1),
    ],
)
def test_what_is_not_clear_is_left_open(films, typed, among, number):
    match = films.find(typed)
    assert match.kind == "open" and len(match.items) == number
    assert among in [films.shown[item] for item in match.items]


def test_what_is_not_there_brings_the_nearest(films):
    match = films.find("star trk")
    assert match.kind == "near" and all("Star Trek" in films.shown[item] for item in match.items)
    assert films.find("?!").items == [] and films.find("").kind == "near"


def test_every_title_finds_its_own_item(films, movielens):
    for item, title in enumerate(load_data(movielens).catalog.titles):
        assert item in films.find(title).items


def test_years_come_from_titles_where_there_is_no_column():
    search = TitleSearch(Catalog.from_rows([{"item_id": y, "title": f"Sabrina ({y})"} for y in ("1954", "1995")]))
    assert search.years == ["1954", "1995"]
    assert search.find("sabrina").kind == "open" and search.find("sabrina 1995").items == [1]


def test_items_of_one_title_are_all_offered():
    search = TitleSearch(Catalog.from_rows([{"item_id": c, "title": "Soap"} for c in "abc"]))
    assert search.find("soap").items == [0, 1, 2] and search.find("soap").kind == "open"


@given(st.text(max_size=400))
@settings(deadline=None, max_examples=200)
def test_no_text_breaks_the_search(text):
    search = TitleSearch(
        Catalog.from_rows([{"item_id": "a", "title": text}, {"item_id": "b", "title": "The The (1983)"}])
    )
    match = search.find(text)
    if normalised(text[:200]) and len(text) <= 200:
        assert 0 in match.items
    assert set(match.items) <= {0, 1} and (match.kind != "sure" or len(match.items) == 1)
