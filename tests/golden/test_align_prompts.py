"""Every shipped alignment prompt, as a row with the real SmolLM2 tokenizer, token for token as it was when it was last looked at.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

from pathlib import Path

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.items.forms import NO_TARGET, semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.alignment import TASKS, AlignmentTexts, alignment_examples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import list_prompts, load_prompt
from tests.golden.files import kept

FOLDER = Path(__file__).parent / "align"
V = 49152
TITLES = ["Toy Story", "The Usual Suspects", "Il Postino", "Star Wars"]
CATALOG = Catalog.from_rows([{"item_id": f"ml-{item + 1}", "title": title} for item, title in enumerate(TITLES)])
ITEM_TOKENS = semantic_id_tokens(SemanticIDs(np.array([[0, 1], [1, 0], [1, 1], [0, 0]]), (2, 2)), V)
TEXTS = AlignmentTexts(
    titles=TITLES,
    descriptions=["Toys come to life.", "A crime told by a liar.", "A postman and a poet.", "Rebels, far away."],
    queries=["something for children", "a puzzle with a twist", "a gentle love story", "space and heroes"],
    preferences=["Warm stories about odd friendships."],
)


@pytest.mark.parametrize("name", TASKS)
def test_the_shipped_prompt_makes_the_row_it_made(smollm2_tokenizer, name):
    like = PromptEncoder(
        load_prompt("next_item/bare"), smollm2_tokenizer, ITEM_TOKENS, CATALOG, max_history=10, max_tokens=300
    )
    rows = alignment_examples(name, TEXTS, Histories.from_lists([[0, 2, 1, 3]]), CATALOG, like, max_answer_tokens=20)
    row = rows[len(rows) - 1]
    ids = row["input_ids"].tolist()
    start = int(np.argmax(row["labels"] != NO_TARGET))
    words = [ITEM_TOKENS.row_strings[i - V] if i >= V else smollm2_tokenizer.decode([i]) for i in ids]
    found = {
        "prompt_hash": load_prompt(f"align/{name}").hash,
        "prompt": "".join(words[:start]),
        "answer": "".join(words[start:]),
        "input_ids": ids,
    }
    path = FOLDER / f"{name}.json"
    assert found == kept(path, found)


def test_each_task_has_its_prompt_and_each_prompt_its_task():
    prompts = {name.removeprefix("align/") for name in list_prompts() if name.startswith("align/")}
    assert prompts == set(TASKS) == {path.stem for path in FOLDER.glob("*.json")}
