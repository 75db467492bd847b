"""Texts on disk: read as they were written, by the data they were written for."""

import logging

import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.folder import Data
from llmrec.enrich.generated_texts import GeneratedTexts, load_generated_texts
from llmrec.enrich.run import enrich
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import DataError
from llmrec.text_models.openai import OpenAIModel
from tests.enrich.conftest import film_data
from tests.enrich.serving import ChatServer, good_text

TITLES = ["Heat", "Fargo", "Toy Story", "Duck Soup"]


@pytest.fixture
def four(tmp_path) -> Data:
    return placed(film_data([{"title": title} for title in TITLES]), tmp_path)


def placed(data: Data, folder) -> Data:
    data.folder = folder
    return data


def generated_texts(data: Data, about: str = "items") -> GeneratedTexts:
    card = {"about": about, "num_rows": data.catalog.num_items, "settings": {"keep_flagged": False},
            "catalog_hash": data.catalog.content_hash, "content_hash": data.content_hash()}  # fmt: skip
    return GeneratedTexts.of(4, {0: ("a text", "ok"), 2: ("cut. ", "trimmed"), 3: ("no no no", "looping")}, card)


def test_generated_texts_are_read_as_they_were_written(four, tmp_path):
    generated_texts(four).save(tmp_path / "generated_texts" / "one")
    read = load_generated_texts(four, "one")
    assert read.texts == ["a text", None, "cut. ", None] and read.statuses == ["ok", None, "trimmed", "looping"]
    assert read.all_texts[3] == "no no no" and read.card == {"format_version": 1, **generated_texts(four).card}
    generated_texts(four).save(tmp_path / "generated_texts" / "one")  # in place of the first
    assert load_generated_texts(four, None) == read
    assert [path.name for path in (tmp_path / "generated_texts").iterdir()] == ["one"]


def test_generated_texts_that_cannot_be_read_are_one_sentence(four, tmp_path):
    with pytest.raises(DataError, match=r"has no generated texts about items.*llmrec enrich"):
        load_generated_texts(four, None)
    generated_texts(four).save(tmp_path / "generated_texts" / "one")
    for name, sentence in (("two", "cannot read"), ("../x", "name of")):
        with pytest.raises(DataError, match=sentence):
            load_generated_texts(four, name)
    generated_texts(four).save(tmp_path / "generated_texts" / "two")
    with pytest.raises(DataError, match="several sets of generated texts about items: one, two"):
        load_generated_texts(four, None)
    (tmp_path / "generated_texts" / "two" / "texts.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(DataError, match="could not be read as the texts"):
        load_generated_texts(four, "two")
    (tmp_path / "generated_texts" / "two" / "card.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_generated_texts(four, "two")


@pytest.mark.parametrize("titles", [[*TITLES[:3], "Alien"], TITLES[:3], ["Alien", *TITLES], [*TITLES[:3], "", "Alien"]])
def test_texts_about_another_catalogue_are_refused_whatever_its_size(four, tmp_path, titles):
    generated_texts(four).save(tmp_path / "generated_texts" / "one")
    other = placed(film_data([{"title": title} for title in titles]), tmp_path)
    with pytest.raises(DataError, match=r"written for another catalogue \(content .*asks only what it has not"):
        load_generated_texts(other, "one")


def test_texts_about_users_from_other_events_are_refused(tmp_path):
    one = placed(film_data([{"title": title} for title in TITLES], [[0, 1, 2, 3]]), tmp_path)
    card = {"about": "users", "num_rows": 1, "settings": {"keep_flagged": False}, "content_hash": one.content_hash()}
    GeneratedTexts.of(1, {0: ("likes films", "ok")}, card).save(tmp_path / "generated_texts" / "tastes")
    assert load_generated_texts(one, None, about="users").texts == ["likes films"]
    with pytest.raises(DataError, match="has no generated texts about items"):
        load_generated_texts(one, None)
    with pytest.raises(DataError, match=r"expected generated texts about items .* but they are about users"):
        load_generated_texts(one, "tastes")
    moved = placed(film_data([{"title": title} for title in TITLES], [[0, 1, 3, 2]]), tmp_path)
    with pytest.raises(DataError, match="written for other data"):
        load_generated_texts(moved, "tastes", about="users")


def test_items_that_came_later_have_no_text_until_the_same_command_has_asked_about_them(tmp_path, caplog):
    """As after `llmrec add-items`: the data are prepared anew, the old items first."""
    old, settings = film_data([{"title": title} for title in TITLES]), EnrichSettings(model="m")
    catalog = old.catalog.extend(
        Catalog.from_rows([{"item_id": "new1", "title": "Alien"}, {"item_id": "new2", "title": "Brazil"}])
    )
    grown = placed(film_data([{"title": "x"}] * 6), tmp_path)
    grown.catalog = catalog
    with ChatServer(good_text) as server:
        model = OpenAIModel("m", server.url, first_wait=0.01)
        first = enrich(old, settings, model, cache_path=tmp_path / "a.sqlite")
        first.save(tmp_path / "generated_texts" / "m")
        with caplog.at_level(logging.WARNING):
            read = load_generated_texts(grown, "m")
        assert read.texts == [*first.texts, None, None] and read.statuses == [*first.statuses, None, None]
        assert "the first 4 of 6 items" in caplog.text
        enrich(grown, settings, model, cache_path=tmp_path / "a.sqlite").save(tmp_path / "generated_texts" / "m")
        assert len(server.bodies) == 6
    caplog.clear()
    texts = load_generated_texts(grown, "m").texts
    assert texts[:4] == first.texts and None not in texts and not caplog.records
