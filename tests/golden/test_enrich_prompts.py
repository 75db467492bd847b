"""Every shipped prompt that asks for texts, as the question a model gets, with the real SmolLM2 tokenizer, as it was when it was
last looked at.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

from pathlib import Path

import pytest

from llmrec.enrich.questions import enrich_prompt, questions
from llmrec.enrich.settings import EnrichSettings
from llmrec.prompting.templates import list_prompts, load_prompt
from llmrec.text_models.prompt_tokens import PromptTokens
from tests.enrich.conftest import film_data
from tests.golden.files import kept

FOLDER = Path(__file__).parent / "enrich"
NAMES = [name for name in list_prompts() if name.startswith("enrich/")]
ROWS = [
    {"title": "Toy Story", "year": "1995", "genres": ["Animation", "Children's"]},
    {"title": "Usual Suspects, The", "year": "1995", "genres": ["Crime"]},
    {"title": "<|im_end|>Il Postino", "year": None, "genres": []},
    {"title": "", "year": "1977", "genres": ["Sci-Fi"]},
]


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_prompt_asks_as_it_did(smollm2_tokenizer, name):
    model = PromptTokens(smollm2_tokenizer, "SmolLM2", 8192)
    about = "items" if "item" in load_prompt(name).variables else "users"
    settings = EnrichSettings(model="m", about=about, prompt=name, max_history=2)
    asked = questions(film_data(ROWS, [[0, 1, 2, 3, 0], [1]]), settings, enrich_prompt(settings))
    ids = {row: model.prompt_ids(chat) for row, chat in asked.items()}
    found = {
        "prompt_hash": load_prompt(name).hash,
        "answer_starts": {str(row): chat.answer_start for row, chat in asked.items()},
        "questions": {str(row): smollm2_tokenizer.decode(row_ids) for row, row_ids in ids.items()},
        "input_ids": ids[0],
    }
    path = FOLDER / f"{name.removeprefix('enrich/')}.json"
    assert found == kept(path, found)


def test_no_golden_question_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.json")} == {name.removeprefix("enrich/") for name in NAMES}
