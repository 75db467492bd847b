"""How a state changes by edits, over real MovieLens titles: the rules of eval/phrasings/README.md by their numbers."""

from dataclasses import replace

import pytest

from llmrec.conversation.changes import changed
from llmrec.conversation.edits import (
    Allow,
    Bounds,
    Compare,
    Count,
    Drop,
    Exclude,
    ForgetColumn,
    ForgetTitles,
    Lean,
    Mark,
    Mention,
    Require,
    Surprise,
    Without,
)
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState, Preference
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.errors import DataError

FARGO, STAR_WARS, GODFATHER, BATMAN, BATMAN_RETURNS = "100", "50", "127", "403", "231"


@pytest.fixture(scope="module")
def facets(movielens) -> Facets:
    return Facets(load_data(movielens).catalog)


def mark(field: str, *item_ids: str) -> Mark:
    return Mark(Mention("", item_ids), field)


def where(state: ChatState) -> set[str]:
    return {str(condition) for condition in state.where}


def after(facets: Facets, *edits, before: ChatState | None = None) -> ChatState:
    return changed(before or ChatState(), edits, facets)[0]


def test_the_catalogue_says_what_wishes_can_be_about(facets):
    assert facets.number_columns == ("year",) and facets.is_whole("year")
    assert list(facets.choices) == ["genres"] and facets.choices["genres"][:2] == ("Drama", "Comedy")
    assert facets.number_of("year", FARGO) == 1996


def test_a_column_of_texts_and_one_of_names_of_their_own_are_no_choices():
    rows = [
        {"item_id": str(n), "title": f"t{n}", "plot": f"Plot {n}.", "price": f"{n}.5", "kind": "AB"[n % 2]}
        for n in range(9)
    ]
    facets = Facets(Catalog.from_rows(rows))
    assert list(facets.choices) == ["kind"] and facets.number_columns == ("price",) and not facets.is_whole("price")


def test_an_item_is_liked_disliked_or_seen_by_the_latest_word(facets):
    state = after(facets, mark("liked", FARGO, STAR_WARS), mark("disliked", FARGO), mark("liked", STAR_WARS))
    assert (state.liked, state.disliked, state.seen) == ((STAR_WARS,), (FARGO,), ())
    state = after(facets, mark("seen", FARGO), before=state)
    assert (state.disliked, state.seen) == ((), (FARGO,))


def test_values_asked_for_replace_join_and_leave(facets):
    state = after(facets, Require("genres", ("Comedy",)), Exclude("genres", ("Horror", "War")))
    assert where(state) == {"genres=Comedy", "genres!=Horror|War"}
    joined = after(facets, Require("genres", ("Drama",), also=True), before=state)
    assert where(joined) == {"genres=Comedy|Drama", "genres!=Horror|War"}
    assert where(after(facets, Exclude("genres", ("Comedy",)), before=state)) == {"genres!=Horror|War|Comedy"}
    assert where(after(facets, Require("genres", ("War",)), before=state)) >= {"genres=War", "genres!=Horror"}
    assert where(after(facets, Allow("genres", "Horror"), before=state)) == {"genres=Comedy", "genres!=War"}
    assert where(after(facets, Drop("genres", "Comedy"), before=state)) == {"genres!=Horror|War"}
    assert where(after(facets, ForgetColumn("genres"), before=state)) == set()


def test_bounds_of_whole_numbers_include_them_and_replace_their_own_side(facets):
    state = after(facets, Bounds("year", 1990, 1999, both=True))
    assert where(state) == {"year>=1990", "year<=1999"}
    assert where(after(facets, Bounds("year", low=1995, open=True), before=state)) == {"year>=1996", "year<=1999"}
    assert where(after(facets, Bounds("year", high=1980, open=True), before=state)) == {"year<=1979"}


@pytest.mark.parametrize(
    ("before", "edit", "expected"),
    [
        (ChatState(), Compare("year", smaller=True, than=Mention("Fargo", (FARGO,))), {"year<=1995"}),
        (ChatState(shown=(FARGO, STAR_WARS)), Compare("year", smaller=False), {"year>=1978"}),  # of 1977 and 1996 the lower
        (ChatState(liked=(GODFATHER,)), Compare("year", smaller=True), {"year<=1971"}),
    ],
)  # fmt: skip
def test_comparisons_take_the_first_reference_there_is(facets, before, edit, expected):
    assert where(after(facets, edit, before=before)) == expected


def test_a_comparison_goes_beyond_the_bound_that_stands_and_drops_it(facets):
    nineties = after(facets, Bounds("year", 1990, 1999, both=True))
    assert where(after(facets, Compare("year", smaller=True), before=replace(nineties, shown=(FARGO,)))) == {"year<=1989"}  # fmt: skip
    assert where(after(facets, Compare("year", smaller=False), before=nineties)) == {"year>=2000"}


def test_a_comparison_without_a_reference_changes_nothing_and_says_so(facets):
    state, notes = changed(ChatState(), [Compare("year", smaller=True)], facets)
    assert state == ChatState() and "year" in notes[0]


def test_leans_replace_their_own_value_only(facets):
    state = after(facets, Lean("genres", "Comedy", word="lighter"), Lean("genres", "War", less=True))
    state = after(facets, Lean("genres", "War"), before=state)
    assert state.prefer == (Preference("genres", "Comedy"), Preference("genres", "War"))
    state = after(facets, Drop("genres", "War"), Allow("genres", "Comedy"), before=state)
    assert state.prefer == (Preference("genres", "Comedy"),)


def test_forgotten_words_leave_every_list_and_any_change_empties_what_was_shown(facets):
    state = after(
        facets, mark("liked", BATMAN, FARGO), mark("seen", BATMAN_RETURNS), Without("Batman"), Count(3), Surprise(True)
    )
    state = replace(state, shown=(STAR_WARS,))
    found = after(facets, ForgetTitles("batman"), before=state)
    assert (found.liked, found.seen, found.without, found.shown) == ((FARGO,), (), (), ())
    assert (found.count, found.surprise) == (3, True)
    assert after(facets, Count(3), before=state).shown == (STAR_WARS,)


def test_a_state_is_read_back_from_its_json(facets):
    state = after(
        facets,
        mark("liked", FARGO),
        Require("genres", ("Comedy", "A|B")),
        Lean("genres", "Comedy", word="lighter"),
        Count(3),
    )
    again = ChatState.from_json(state.as_json())
    assert again == state and again.prefer[0].word == "lighter"
    with pytest.raises(DataError, match="has no field 'loved'"):
        ChatState.from_json({"loved": []})
    with pytest.raises(DataError, match="count is from 1 to 100"):
        ChatState.from_json({"count": 10**9})
