"""Every shipped prompt for the next item, rendered with the real SmolLM2 tokenizer, token for token as it was last looked at.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from llmrec.data.catalog import Catalog
from llmrec.items.forms import ItemTokens, semantic_id_tokens, text_tokens, unique_id_tokens
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import list_prompts, load_prompt

FOLDER = Path(__file__).parent / "next_item"
V = 49152
TITLES = ["Toy Story", "The Usual Suspects", "Il Postino", "Star Wars", ""]
CATALOG = Catalog.from_rows([{"item_id": f"ml-{item + 1}", "title": title} for item, title in enumerate(TITLES)])
HISTORY, ANSWER = [0, 2, 4, 1], 3
NEXT_ITEM_PROMPTS = [name for name in list_prompts() if name.startswith("next_item/")]


def item_tokens(form: str, tokenizer) -> ItemTokens:
    if form == "unique_id":
        return unique_id_tokens(len(TITLES), V)
    if form == "semantic_id":
        return semantic_id_tokens(SemanticIDs(np.array([[0, 1], [1, 0], [1, 1], [0, 0], [2, 1]]), (3, 2)), V)
    return text_tokens(TITLES, tokenizer, V, item_ids=CATALOG.item_ids)


@pytest.mark.parametrize("name", NEXT_ITEM_PROMPTS)
@pytest.mark.parametrize("form", ["text", "unique_id", "semantic_id"])
def test_the_shipped_prompt_renders_as_it_did(smollm2_tokenizer, name, form):
    prompt, tokens = load_prompt(name), item_tokens(form, smollm2_tokenizer)
    encoder = PromptEncoder(prompt, smollm2_tokenizer, tokens, CATALOG, max_history=10, max_tokens=300)
    rendered = encoder.encode_with_spans(HISTORY, answer=ANSWER)
    words = [
        tokens.row_strings[i - V] if i >= V else smollm2_tokenizer.decode([i]) for i in rendered.input_ids.tolist()
    ]
    found = {
        "prompt_hash": prompt.hash,
        "prompt": "".join(words[: rendered.num_prompt_tokens]),
        "answer": "".join(words[rendered.num_prompt_tokens :]),
        "empty_history": encoder.encode([]).tolist(),
        "input_ids": rendered.input_ids.tolist(),
    }
    path = FOLDER / f"{prompt.name}.{form}.json"
    if os.environ.get("LLMREC_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        lines = ",\n".join(
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()
        )
        path.write_text(f"{{{lines}}}\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))


def test_no_golden_rendering_is_left_over():
    prompts = {load_prompt(name).name for name in NEXT_ITEM_PROMPTS}
    assert {path.name.split(".")[0] for path in FOLDER.glob("*.json")} == prompts
