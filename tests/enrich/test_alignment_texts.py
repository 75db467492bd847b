"""Texts for alignment: from columns, from what was written about items and users, and never from events that are held out."""

import pytest

from llmrec.data.folder import load_data
from llmrec.data.splits import by_user, leave_one_out
from llmrec.enrich.alignment_texts import alignment_texts
from llmrec.enrich.generated_texts import GeneratedTexts, generated_texts_folder
from llmrec.enrich.run import enrich
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ConfigError, DataError
from llmrec.items.forms import unique_id_tokens
from llmrec.prompting.alignment import alignment_examples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.mixture import Mixture, Source
from llmrec.prompting.templates import load_prompt
from llmrec.text_models.openai import OpenAIModel
from tests.enrich.serving import ChatServer, question


@pytest.fixture
def data(few_items, tmp_path):
    """A data folder of its own with generated texts about items and users, the latter from two kinds of events."""
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
        GeneratedTexts.of(num_rows, {3: (text, "ok"), 5: ("rubbish", "looping")}, card).save(
            generated_texts_folder(folder, name)
        )
    return data


def test_each_text_comes_from_where_it_is_named(data):
    split = leave_one_out(data.interactions)
    texts = alignment_texts(data, split, generated_texts="plots", queries="plots", preferences="tastes")
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
        alignment_texts(data, split, description=["genres"], generated_texts="plots")
    with pytest.raises(DataError, match="about users"):
        alignment_texts(data, split, queries="tastes")
    with pytest.raises(DataError):
        alignment_texts(data, split, queries="nothing")


def test_queries_that_a_model_wrote_are_what_the_query_task_asks(data, tmp_path, smollm2_tokenizer):
    split = leave_one_out(data.interactions)
    settings = EnrichSettings(model="m", prompt="enrich/item_query")
    with ChatServer(lambda body, _: f"query about the {question(body).splitlines()[0].lower()}") as server:
        written = enrich(data, settings, OpenAIModel("m", server.url), cache_path=tmp_path / "answers.sqlite")
    written.save(generated_texts_folder(data.folder, "queries"))
    texts = alignment_texts(data, split, queries="queries")
    tokens = unique_id_tokens(data.catalog.num_items, 49152)
    like = PromptEncoder(
        load_prompt("next_item/bare"), smollm2_tokenizer, tokens, data.catalog, max_history=5, max_tokens=200
    )
    rows = alignment_examples("query_to_item", texts, split.train.histories, data.catalog, like, max_answer_tokens=8)
    mixture = Mixture([Source("query_to_item", rows, 0.5)], seed=0)
    for row in (mixture[0], mixture[len(mixture) - 1]):
        item = int(row["input_ids"][-1]) - 49152
        asked = smollm2_tokenizer.decode([i for i in row["input_ids"].tolist() if i < 49152])
        assert f"looks for this: query about the item: {data.catalog.title(item).lower()}" in asked
    with pytest.raises(ConfigError, match="--prompt enrich/item_query --name queries"):
        alignment_examples("query_to_item", alignment_texts(data, split), split.train.histories, data.catalog, like,
                       max_answer_tokens=8)  # fmt: skip
