"""Titles in a text: those it was given may be named, others may not."""

import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.explain.hallucinated_titles import hallucinated_titles

TITLES = ["Star Wars (1977)", "Return of the Jedi", "Star Trek: First Contact", "First Contact", "Heat", "The Game",
          "Godfather, The (1972)", "Scream", "Dr. Strangelove or: How I Learned to Stop Worrying", "", "M*A*S*H", "101 Dalmatians",
          "Les Misérables (1998)"]  # fmt: skip
CATALOG = Catalog.from_rows([{"item_id": str(n), "title": title} for n, title in enumerate(TITLES)])
GIVEN = ["Return of the Jedi", "Scream"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Return of the Jedi suits you because Scream is a thriller.", []),
        ("If you like it, watch Star Wars.", ["Star Wars"]),
        ("The Star Wars saga, and then The Godfather!", ["The Star Wars", "The Godfather"]),
        ("It is like Star Trek: First Contact.", ["Star Trek: First Contact"]),
        ("As in Dr. Strangelove or: How I Learned to Stop Worrying, all laugh.",
         ["Dr. Strangelove or: How I Learned to Stop Worrying"]),
        ("Like M*A*S*H and 101 Dalmatians.", ["M*A*S*H", "101 Dalmatians"]),
        ("Like Les Misérables, it is long.", ["Les Misérables"]),
        ("The heat of the game is on. Heat it up.", []),
        ('Watch "Heat" or “The Game”.', ["The Game", "Heat"]),
        ("It is like Heat, and Scream.", ["Heat"]),
        ("return of the jedi and star wars", []),
        ('It is a "space opera" in "Deep Space Harmony".', ["Deep Space Harmony"]),
        ("", []),
    ],
)  # fmt: skip
def test_other_titles_are_found(text, named):
    assert sorted(hallucinated_titles(text, CATALOG, GIVEN)) == sorted(named)


def test_a_title_inside_a_given_one_is_not_another():
    given = ["Star Trek: First Contact"]
    assert hallucinated_titles("Star Trek: First Contact suits you.", CATALOG, given) == []
    assert hallucinated_titles("Star Trek: First Contact is no First Contact.", CATALOG, given) == ["First Contact"]


def test_a_given_title_may_come_without_its_year_and_article():
    assert hallucinated_titles("The Godfather, or Godfather, and Star Wars", CATALOG, [TITLES[6], TITLES[0]]) == []


def test_a_quoted_name_may_stand_in_the_facts():
    assert hallucinated_titles('A film by "Joel Coen".', CATALOG, GIVEN, "director: Joel Coen") == []


def test_a_word_of_the_facts_is_no_title_of_one_word():
    assert hallucinated_titles("It is full of Heat.", CATALOG, GIVEN, "mood: heat, noise") == []


def test_every_real_title_of_two_words_is_found_as_it_is_written(movielens):
    catalog = load_data(movielens).catalog
    written = [
        title for title in catalog.titles if 2 <= len(title.partition(" (")[0].split()) <= 8 and title[0].isupper()
    ]
    assert len(written) > 1000
    assert [title for title in written if not hallucinated_titles(f"You might like {title} too.", catalog, [])] == []
