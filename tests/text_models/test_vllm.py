"""The real vLLM engine, where it is installed: what it writes is what transformers writes of the same prompts."""

import os

import pytest

from llmrec.text_models.protocol import Chat, Request
from llmrec.text_models.transformers import TransformersModel
from llmrec.text_models.vllm import VllmModel

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
NAME = "SmolLM2-135M-Instruct"


def test_vllm_writes_greedily_what_transformers_writes(monkeypatch):
    for name, value in {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
    }.items():
        if name not in os.environ:
            monkeypatch.setenv(name, value)
    films = ("Heat", "Toy Story", "Fargo", "Star Wars")
    requests = [
        Request(Chat((("user", f"Say in one sentence what kind of film {film} is."),), f"{film} is"), 24)
        for film in films
    ]
    found = []
    for model in (VllmModel(NAME, dtype="float32"), TransformersModel.load(NAME, dtype="float32")):
        answers = dict(model.complete(requests))
        found.append([(answers[place].text, answers[place].new_tokens) for place in range(len(films))])
        assert model.count_tokens([requests[0].chat]) == [answers[0].prompt_tokens]
    assert found[0] == found[1]
    assert all(text.strip() for text, _ in found[0])
