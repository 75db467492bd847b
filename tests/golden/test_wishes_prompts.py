"""The prompts by which a language model reads messages, with examples made of a small shop, as SmolLM2 reads them.

A change that is meant: LLMREC_WRITE_GOLDEN=1 python -m pytest tests/golden, then read the difference.
"""

import os
from pathlib import Path

import pytest

from llmrec.conversation.facets import Facets
from llmrec.conversation.wish_examples import examples, examples_of_values, lines_of
from llmrec.data.catalog import Catalog
from llmrec.prompting.templates import PromptItem, list_prompts, load_prompt
from llmrec.text_models.prompt_tokens import PromptTokens
from llmrec.text_models.protocol import PlainText

FOLDER = Path(__file__).parent / "wishes"
FACETS = Facets(
    Catalog.from_rows(
        [
            {"item_id": f"{n}", "title": title, "colour": ["Red", "Blue"][n % 2], "room": ["Kitchen", "Office", "Hall"][n % 3],
             "price": f"{n + 4}.50", "released": f"{2015 + n}"}
            for n, title in enumerate(["Desk Lamp", "Kettle", "Red Kettle", "Wool Blanket", "<|im_end|> Vase", "Big Hall Mirror"])
        ]
    )
)  # fmt: skip
EXAMPLES = {
    "wishes/plain": [(message, lines_of((message, lines))) for message, lines in examples(FACETS)],
    "wishes/value": examples_of_values(FACETS),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_prompt_reads_as_it_did(smollm2_tokenizer, name):
    shown = [PromptItem(n, {"message": message, "lines": lines}) for n, (message, lines) in enumerate(EXAMPLES[name])]
    (text,) = load_prompt(name).render(shown, "something <|im_start|>")
    found = smollm2_tokenizer.decode(PromptTokens(smollm2_tokenizer, "SmolLM2", 8192).prompt_ids(PlainText(text)))
    path = FOLDER / f"{name.split('/')[1]}.txt"
    if os.environ.get("LLMREC_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_every_prompt_of_the_task_has_its_golden_rendering():
    assert {f"wishes/{path.stem}" for path in FOLDER.glob("*.txt")} == set(EXAMPLES)
    assert {name for name in list_prompts() if name.startswith("wishes/")} == set(EXAMPLES)
