"""The real vLLM engine, where it is installed: asked the same prompts, it gives the probabilities that transformers gives."""

import os

import numpy as np
import pytest

from llmrec.evaluation.asked.clicks import open_asked_clicks
from tests.evaluation.asked.test_clicks import TEST, data, settings, split_of  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def test_vllm_gives_the_probabilities_of_transformers(monkeypatch, data):  # noqa: F811
    for name, value in {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
    }.items():
        if name not in os.environ:
            monkeypatch.setenv(name, value)
    found = []
    for provider in ("vllm", "transformers"):
        device = None if provider == "vllm" else "cpu"
        scorer = open_asked_clicks(settings(provider=provider, device=device, shots=2), data, split_of())
        found.append(scorer.score_rows(TEST))
        assert scorer.card["provider"] == provider and scorer.card["layers"] == "30 of 30 layers"
    assert found[0] == pytest.approx(found[1], abs=2e-4)
    assert found[0].shape == (5,) and np.ptp(found[0]) > 1e-3
