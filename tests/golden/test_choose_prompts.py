"""Every shipped prompt that asks for a choice, rendered with the real SmolLM2 tokenizer, as it was when it was last looked at.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

from pathlib import Path

import numpy as np
import pytest

from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import list_prompts, load_prompt
from tests.golden.files import kept
from tests.golden.test_prompts import CATALOG, item_tokens

FOLDER = Path(__file__).parent / "choose"
CHOOSE_PROMPTS = [name for name in list_prompts() if name.startswith("choose/")]


@pytest.mark.parametrize("name", CHOOSE_PROMPTS)
def test_the_shipped_prompt_renders_as_it_did(smollm2_tokenizer, name):
    prompt, titles = load_prompt(name), item_tokens("text", smollm2_tokenizer)
    encoder = PromptEncoder(prompt, smollm2_tokenizer, titles, CATALOG, max_history=10, max_tokens=300)
    ids = encoder.encode([0, 2], candidate=np.array([3, 1, 4])).tolist()
    found = {"prompt_hash": prompt.hash, "prompt": smollm2_tokenizer.decode(ids), "input_ids": ids}
    path = FOLDER / f"{prompt.name}.json"
    assert found == kept(path, found)


def test_no_golden_rendering_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.json")} == {load_prompt(name).name for name in CHOOSE_PROMPTS}
