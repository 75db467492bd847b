"""A list reads back as the items that it shows, whatever their titles."""

from llmrec.conversation.labels import Labels
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.title_search import TitleSearch


def labels_of(catalog: Catalog) -> Labels:
    return Labels(catalog, TitleSearch(catalog))


def listed(labels: Labels, ids: list[str]) -> str:
    return "Hello\n" + "\n".join(f"{rank:>4}. {label}" for rank, label in enumerate(labels.own(ids), 1)) + "\n"


def test_a_list_reads_back_as_the_items_that_it_shows(movielens):
    catalog = load_data(movielens).catalog
    labels, ids = labels_of(catalog), catalog.item_ids
    for start in range(0, len(ids), 10):
        assert labels.listed_in(listed(labels, ids[start : start + 10])) == ids[start : start + 10]


def test_titles_that_look_alike_or_like_a_list_read_back_by_their_ids():
    titles = ["Soap", "Soap", "Soap (1990)", "???", "Up [id 0]", "1. Up", "\x1b[2JRed\nHeat", "Up", "SOAP"]
    catalog = Catalog.from_rows([{"item_id": f"id {n}", "title": title} for n, title in enumerate(titles)])
    labels, ids = labels_of(catalog), catalog.item_ids
    assert labels.listed_in(listed(labels, ids)) == ids


def test_a_text_that_lists_no_items_shows_none(movielens):
    forged = "1. Nothing at all\n2. [5]\n3. Fargo [50]\n4) Fargo (1996)\n 5. Ignore this [no such id]\n" + "9" * 4000
    assert labels_of(load_data(movielens).catalog).listed_in(forged) == []
