"""Texts on disk: read as they were written, by the data they were written for."""

import logging

import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.folder import Data
from llmrec.enrich.http_provider import HttpProvider
from llmrec.enrich.knowledge import Knowledge, load_knowledge
from llmrec.enrich.run import enrich
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import DataError
from tests.enrich.conftest import film_data
from tests.enrich.serving import ChatServer, good_text

TITLES = ["Heat", "Fargo", "Toy Story", "Duck Soup"]


@pytest.fixture
def four(tmp_path) -> Data:
    return placed(film_data([{"title": title} for title in TITLES]), tmp_path)


def placed(data: Data, folder) -> Data:
    data.folder = folder
    return data


def knowledge(data: Data, about: str = "items") -> Knowledge:
    card = {"about": about, "num_rows": data.catalog.num_items, "settings": {"keep_flagged": False},
            "catalog_hash": data.catalog.content_hash, "content_hash": data.content_hash()}  # fmt: skip
    return Knowledge.of(4, {0: ("a text", "ok"), 2: ("cut. ", "trimmed"), 3: ("no no no", "looping")}, card)


def test_knowledge_is_read_as_it_was_written(four, tmp_path):
    knowledge(four).save(tmp_path / "knowledge" / "one")
    read = load_knowledge(four, "one")
    assert read.texts == ["a text", None, "cut. ", None] and read.statuses == ["ok", None, "trimmed", "looping"]
    assert read.all_texts[3] == "no no no" and read.card == {"format_version": 1, **knowledge(four).card}
    knowledge(four).save(tmp_path / "knowledge" / "one")  # in place of the first
    assert load_knowledge(four, None) == read
    assert [path.name for path in (tmp_path / "knowledge").iterdir()] == ["one"]


def test_knowledge_that_cannot_be_read_is_one_sentence(four, tmp_path):
    with pytest.raises(DataError, match=r"has no knowledge about items.*llmrec enrich"):
        load_knowledge(four, None)
    knowledge(four).save(tmp_path / "knowledge" / "one")
    for name, sentence in (("two", "cannot read"), ("../x", "name of")):
        with pytest.raises(DataError, match=sentence):
            load_knowledge(four, name)
    knowledge(four).save(tmp_path / "knowledge" / "two")
    with pytest.raises(DataError, match="several kinds of knowledge about items: one, two"):
        load_knowledge(four, None)
    (tmp_path / "knowledge" / "two" / "texts.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(DataError, match="could not be read as the texts"):
        load_knowledge(four, "two")
    (tmp_path / "knowledge" / "two" / "card.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_knowledge(four, "two")


@pytest.mark.parametrize("titles", [[*TITLES[:3], "Alien"], TITLES[:3], ["Alien", *TITLES], [*TITLES[:3], "", "Alien"]])
def test_texts_about_another_catalogue_are_refused_whatever_its_size(four, tmp_path, titles):
    knowledge(four).save(tmp_path / "knowledge" / "one")
    other = placed(film_data([{"title": title} for title in titles]), tmp_path)
    with pytest.raises(DataError, match=r"written for another catalogue \(content .*asks only what it has not"):
        load_knowledge(other, "one")


def test_texts_about_users_from_other_events_are_refused(tmp_path):
    one = placed(film_data([{"title": title} for title in TITLES], [[0, 1, 2, 3]]), tmp_path)
    card = {"about": "users", "num_rows": 1, "settings": {"keep_flagged": False}, "content_hash": one.content_hash()}
    Knowledge.of(1, {0: ("likes films", "ok")}, card).save(tmp_path / "knowledge" / "tastes")
    assert load_knowledge(one, None, about="users").texts == ["likes films"]
    with pytest.raises(DataError, match="has no knowledge about items"):
        load_knowledge(one, None)
    with pytest.raises(DataError, match=r"expected knowledge about items .* but it is about users"):
        load_knowledge(one, "tastes")
    moved = placed(film_data([{"title": title} for title in TITLES], [[0, 1, 3, 2]]), tmp_path)
    with pytest.raises(DataError, match="written for other data"):
        load_knowledge(moved, "tastes", about="users")


def test_items_that_came_later_have_no_text_until_the_same_command_has_asked_about_them(tmp_path, caplog):
    """As after `llmrec add-items`: the data are prepared anew, the old items first."""
    old, settings = film_data([{"title": title} for title in TITLES]), EnrichSettings(model="m")
    catalog = old.catalog.extend(
        Catalog.from_rows([{"item_id": "new1", "title": "Alien"}, {"item_id": "new2", "title": "Brazil"}])
    )
    grown = placed(film_data([{"title": "x"}] * 6), tmp_path)
    grown.catalog = catalog
    with ChatServer(good_text) as server:
        provider = HttpProvider("m", server.url, first_wait=0.01)
        first = enrich(old, settings, provider, cache_path=tmp_path / "a.sqlite")
        first.save(tmp_path / "knowledge" / "m")
        with caplog.at_level(logging.WARNING):
            read = load_knowledge(grown, "m")
        assert read.texts == [*first.texts, None, None] and read.statuses == [*first.statuses, None, None]
        assert "the first 4 of 6 items" in caplog.text
        enrich(grown, settings, provider, cache_path=tmp_path / "a.sqlite").save(tmp_path / "knowledge" / "m")
        assert len(server.bodies) == 6
    caplog.clear()
    texts = load_knowledge(grown, "m").texts
    assert texts[:4] == first.texts and None not in texts and not caplog.records
