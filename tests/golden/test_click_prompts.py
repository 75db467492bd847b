"""Every shipped click prompt, rendered with the real SmolLM2 tokenizer, token for token as it was when it was last looked at.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

from pathlib import Path

import pytest

from llmrec.items.forms import joined, soft_sequences
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import list_prompts, load_prompt
from tests.golden.files import kept
from tests.golden.test_prompts import CATALOG, TITLES, V, item_tokens

FOLDER = Path(__file__).parent / "click"
CLICK_PROMPTS = [name for name in list_prompts() if name.startswith("click/")]


@pytest.mark.parametrize("name", CLICK_PROMPTS)
def test_the_shipped_prompt_renders_as_it_did(smollm2_tokenizer, name):
    prompt, titles = load_prompt(name), item_tokens("text", smollm2_tokenizer)
    prompt_sequences = joined(
        [titles.prompt_sequences, soft_sequences(len(TITLES), 1, V)]
    )  # a title, then its soft token
    encoder = PromptEncoder(
        prompt, smollm2_tokenizer, titles, CATALOG, max_history=10, max_tokens=300, prompt_sequences=prompt_sequences
    )
    ids = encoder.encode([0, 2, 4], candidate=3).tolist()
    cue, liked, disliked = encoder.answer_words
    assert cue == ()
    found = {
        "prompt_hash": prompt.hash,
        "prompt": "".join(f"<soft_{i - V}>" if i >= V else smollm2_tokenizer.decode([i]) for i in ids),
        "answers": [smollm2_tokenizer.decode([liked]), smollm2_tokenizer.decode([disliked])],
        "empty_history": encoder.encode([], candidate=3).tolist(),
        "input_ids": ids,
    }
    path = FOLDER / f"{prompt.name}.json"
    assert found == kept(path, found)


def test_no_golden_rendering_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.json")} == {load_prompt(name).name for name in CLICK_PROMPTS}
