"""What every fuzzer asks: it loads, or says in one sentence why not, soon and without taking the memory of the machine."""

import resource
import time
from collections.abc import Callable
from typing import Any

from llmrec.errors import LlmrecError

SECONDS, KIBIBYTES = 10.0, 1_500_000  # CPU time of one input; how much one may raise the peak of the process


def loads_or_says_why(load: Callable[[], Any]) -> bool:
    """Whether it loads. Whatever else than an LlmrecError is raised comes through, and fails the test."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load()
        loaded = True
    except LlmrecError as error:
        sentence = str(error)
        assert sentence.strip() and "\n" not in sentence, sentence
        assert len(sentence) < 3000, len(sentence)
        loaded = False
    assert time.process_time() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KIBIBYTES
    return loaded
