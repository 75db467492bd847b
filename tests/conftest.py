"""Fixtures shared by all tests: real data sets, the real small model, loaded once a session."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bench_data() -> Path:
    """The folder of benchmark data sets named by LLMREC_BENCH_DATA; in CI its absence is a failure, elsewhere a skip."""
    folder = os.environ.get("LLMREC_BENCH_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = "LLMREC_BENCH_DATA does not name a folder of benchmark data sets (see docs/benchmarks.md)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2_tokenizer():
    """The real tokenizer of SmolLM2-135M-Instruct: vocabulary 49,152, ChatML, BOS <|im_start|>, EOS <|im_end|>."""
    from llmrec.backbones.load import load_tokenizer

    return load_tokenizer("SmolLM2-135M-Instruct")
