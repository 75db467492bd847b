"""What may follow a text, with what was read before kept."""

import pytest
import torch

from llmrec.text_models.next_token import NextToken
from llmrec.text_models.transformers import TransformersModel


@pytest.fixture(scope="module")
def model(tiny_chat_model) -> TransformersModel:
    return TransformersModel.load(tiny_chat_model, dtype="float32")


def test_a_kept_beginning_gives_what_reading_all_anew_gives(model):
    kept = NextToken(model)
    start = model.prompts.tokenizer("Each message is written as wishes, one a line. Message:").input_ids
    texts = [
        [*start, 5],
        [*start, 5, 9, 11],
        [*start, 5, 9],
        [*start, 40, 41, 42],
        [40, 3],
        [*start, 5, 9],
        [*start, 5, 9],
    ]
    with torch.inference_mode():
        for ids in texts:
            alone = model.causal_lm(torch.tensor([ids])).logits[0, -1].float()
            found = kept(ids)
            assert torch.allclose(found, alone, atol=1e-4) and int(found.argmax()) == int(alone.argmax())
    # the beginning once, then what is new and at least the last token: the trie goes back and forth at no cost
    assert kept.tokens_read == len(start) + 1 + 2 + 1 + 3 + 2 + len(start) + 2 + 1


def test_a_model_that_forgets_reads_all_of_each_text(model, monkeypatch):
    monkeypatch.setattr(model, "keeps_beginnings", False)
    kept = NextToken(model)
    assert torch.equal(kept([1, 2, 3]), kept([1, 2, 3])) and kept.tokens_read == 6
