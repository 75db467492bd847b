"""A tiny random model that can be asked as a chat, and few films."""

import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data, save_data
from llmrec.data.interactions import Interactions

CHAT_TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }}: {{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory):
    """A folder with a tiny random Llama, a byte tokenizer with a chat template, and sampling defaults that must not act."""
    from transformers import GenerationConfig

    from tests.tiny import tiny_backbone

    folder = tmp_path_factory.mktemp("tiny_chat_model")
    backbone = tiny_backbone("llama")
    backbone.causal_lm.generation_config = GenerationConfig(
        do_sample=True, temperature=1.8, top_k=7, top_p=0.7, repetition_penalty=1.5, eos_token_id=[2, 77]
    )
    backbone.causal_lm.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return str(folder)


def film_data(rows: list[dict], events: list[list[int]] | None = None) -> Data:
    """Items as given, and users with these histories (one user with all items by default)."""
    catalog = Catalog.from_rows([{"item_id": f"i{n}", **row} for n, row in enumerate(rows)])
    events = [list(range(len(rows)))] if events is None else events
    indptr = [sum(map(len, events[:n])) for n in range(len(events) + 1)]
    interactions = Interactions(indptr, [item for row in events for item in row], len(rows))
    return Data(catalog, interactions, Features(len(rows)), [f"u{n}" for n in range(len(events))])


@pytest.fixture
def films() -> Data:
    """Five films, of which the second and the fourth are the same to a prompt."""
    rows = [
        {"title": "Heat", "year": "1995", "genres": ["Action", "Crime"]},
        {"title": "Fargo", "year": "1996", "genres": ["Crime"]},
        {"title": "Toy Story", "year": "1995", "genres": ["Animation"]},
        {"title": "Fargo", "year": "1996", "genres": ["Crime"]},
        {"title": "Duck Soup", "year": None, "genres": []},
    ]
    return film_data(rows, [[0, 1, 2, 3, 4], [4, 0], []])


@pytest.fixture
def film_folder(films, tmp_path):
    """The same as a data folder."""
    folder = tmp_path / "films"
    folder.mkdir()
    save_data(films, folder)
    return folder
