"""What asks a language model: one small protocol, and the requests and completions that go through it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmrec.errors import LlmrecError
from llmrec.prompting.templates import VALUE_CLOSE, VALUE_OPEN

VALUES = re.compile(
    f"{VALUE_OPEN}([^{VALUE_CLOSE}]*){VALUE_CLOSE}"
)  # in a rendered text; the group is what was written there
_MARKS = re.compile(f"[{VALUE_OPEN}{VALUE_CLOSE}]")


def without_marks(marked: str) -> str:
    """A rendered text as a person reads it."""
    return _MARKS.sub("", marked)


class ProviderError(LlmrecError):
    """A language model or its server that does not answer as it should."""


@dataclass(frozen=True)
class Chat:
    """One question. `turns`: (role, text with values between marks); `answer_start`: what the answer begins with, plain text."""

    turns: tuple[tuple[str, str], ...]
    answer_start: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """As a model on this machine is asked, which takes all contents for words: the last message begins the answer."""
        turns = [{"role": role, "content": without_marks(marked)} for role, marked in self.turns]
        return turns + ([{"role": "assistant", "content": self.answer_start}] if self.answer_start else [])


@dataclass(frozen=True)
class Request:
    """A chat and how its answer is decoded: greedily at temperature 0, else sampled by `seed`, which depends on nothing else."""

    chat: Chat
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """What came back: `text` without the answer's given start; `finish` "stop" or "length"; tokens read and written."""

    text: str
    finish: str
    prompt_tokens: int
    new_tokens: int


class Provider(Protocol):
    """A language model that can be asked.

    `identity`: JSON object that tells this model with its weights and precision from every other; it is part of the cache's keys.
    `batch_size`: requests that are best handed over at once. `local`: asking costs this machine's time and nothing else.
    `begins_answers`: whether an answer can be made to go on from `Chat.answer_start`; else it is left out of the questions.
    `max_tokens`: of prompt and answer together, None where only the server knows.
    """

    identity: dict[str, str]
    batch_size: int
    local: bool
    begins_answers: bool
    max_tokens: int | None

    def count_tokens(self, chats: Sequence[Chat]) -> list[int]:
        """Tokens of each prompt; an estimate where only a server has the tokenizer."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion | ProviderError]]:
        """(index in `requests`, answer) in the order in which they are finished; a ProviderError as the answer is one request's
        own. Raises ProviderError where going on makes no sense.
        """
        ...
