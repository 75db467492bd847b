"""Texts for alignment: from columns, from what was written about items and users, and never from events that are held out."""

import pytest

from llmrec.data.folder import load_data
from llmrec.data.splits import by_user, leave_one_out
from llmrec.enrich.alignment_texts import alignment_texts
from llmrec.enrich.knowledge import Knowledge, knowledge_folder
from llmrec.errors import ConfigError, DataError


@pytest.fixture
def data(few_items, tmp_path):
    """A data folder of its own with knowledge about items and users, the latter from two kinds of events."""
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(few_items, folder)
    data = load_data(folder)
    items, users = data.catalog.num_items, data.interactions.num_users
    for name, about, num_rows, text, fit in (
        ("plots", "items", items, "a plot", "train"),
        ("tastes", "users", users, "likes toys", "train"),
        ("all_tastes", "users", users, "likes toys", "train+valid"),
    ):
        card = {"about": about, "num_rows": num_rows, "settings": {"fit": fit, "keep_flagged": False},
                "catalog_hash": data.catalog.content_hash, "content_hash": data.content_hash()}  # fmt: skip
        Knowledge.of(num_rows, {3: (text, "ok"), 5: ("rubbish", "looping")}, card).save(knowledge_folder(folder, name))
    return data


def test_each_text_comes_from_where_it_is_named(data):
    split = leave_one_out(data.interactions)
    texts = alignment_texts(data, split, knowledge="plots", queries="plots", preferences="tastes")
    assert texts.of("title") == data.catalog.titles
    assert texts.of("description") == texts.of("query") == ["", "", "", "a plot"] + [""] * (data.catalog.num_items - 4)
    assert texts.of("preference")[3] == "likes toys" and len(texts.of("preference")) == data.interactions.num_users
    columns = alignment_texts(data, split, description=["genres", "year"]).of("description")
    assert columns[0] == "genres: Animation, Children's, Comedy. year: 1995"
    assert alignment_texts(data, split).of("description") is None


def test_users_are_not_described_from_events_that_are_held_out(data):
    with pytest.raises(DataError, match="written from the train\\+valid events"):
        alignment_texts(data, leave_one_out(data.interactions), preferences="all_tastes")
    with pytest.raises(DataError, match="train events of by_user"):
        alignment_texts(data, by_user(data.interactions), preferences="tastes")


def test_what_is_not_there_or_said_twice_is_refused(data):
    split = leave_one_out(data.interactions)
    with pytest.raises(ConfigError, match="an item has one description"):
        alignment_texts(data, split, description=["genres"], knowledge="plots")
    with pytest.raises(DataError, match="about users"):
        alignment_texts(data, split, queries="tastes")
    with pytest.raises(DataError):
        alignment_texts(data, split, queries="nothing")
