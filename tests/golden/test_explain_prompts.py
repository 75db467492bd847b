"""Every shipped prompt that explains or answers, as SmolLM2 or a model without a chat template reads it.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

import os
from pathlib import Path

import pytest

from llmrec.data.catalog import Catalog
from llmrec.explain.words import text_prompt
from llmrec.prompting.templates import list_prompts
from llmrec.text_models.prompt_tokens import PromptTokens

FOLDER = Path(__file__).parent / "explain"
CATALOG = Catalog.from_rows(
    [
        {"item_id": "a", "title": "Star Wars", "year": 1977, "genres": ["Action", "Sci-Fi"], "shop_id": "9071"},
        {"item_id": "b", "title": "Fargo", "year": 1996, "genres": ["Crime"], "shop_id": "9072"},
        {"item_id": "c", "title": "", "shop_id": "9073"},
    ]
)
SAID = {"explain": 'It shares year (1996) with "Fargo".', "ask": "Is there a comedy?"}
NAMES = [name for name in list_prompts() if name.split("/")[0] in SAID]


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_prompt_reads_as_it_did(smollm2_tokenizer, name):
    task, kind = name.split("/")
    reader = PromptTokens(smollm2_tokenizer, "SmolLM2", 8192)
    asked = text_prompt(task, CATALOG, ["a", "b"], ["c"], SAID[task], is_chat=kind == "chat")
    found = smollm2_tokenizer.decode(reader.prompt_ids(asked))
    path = FOLDER / f"{task}.{kind}.txt"
    if os.environ.get("LLMREC_WRITE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_no_golden_rendering_is_left_over():
    assert {path.stem.replace(".", "/") for path in FOLDER.glob("*.txt")} == set(NAMES) and len(NAMES) == 4
