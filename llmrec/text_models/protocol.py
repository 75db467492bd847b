"""What every language model that writes can do: one small protocol, and the prompts, requests and completions that go through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    """A language model or its server that does not answer as it should. status: HTTP's, of a refusal."""

    status: int | None = None


@dataclass(frozen=True)
class Chat:
    """One question in messages. `turns`: (role, text with values between marks); `answer_start`: what the answer begins with."""

    turns: tuple[tuple[str, str], ...]
    answer_start: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """As a model on this machine is asked, which takes all contents for words: the last message begins the answer."""
        turns = [{"role": role, "content": without_marks(marked)} for role, marked in self.turns]
        return turns + ([{"role": "assistant", "content": self.answer_start}] if self.answer_start else [])

    @property
    def words(self) -> str:
        """All that it says, a message on a line."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class PlainText:
    """A text, with values between marks, that a model without a chat template goes on with."""

    marked: str

    @property
    def words(self) -> str:
        """As a person reads it."""
        return without_marks(self.marked)


@dataclass(frozen=True)
class Request:
    """A prompt and how its answer is decoded: greedily at temperature 0, else sampled by `seed`, which depends on nothing else."""

    chat: Chat | PlainText
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """What came back, as it came: `text` with a model's thoughts, without the answer's given start; `finish` "stop" or "length"; tokens
    read and written. `reasoning.spoken` tells thoughts from words.
    """

    text: str
    finish: str
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class FirstToken:
    """An answer and what else its first token might have been: (text, log-probability), the likeliest first; none where a server tells
    none."""

    completion: Completion
    likeliest: tuple[tuple[str, float], ...]


@runtime_checkable
class TextModel(Protocol):
    """A language model that writes: `open_text_model` makes one of settings, `generate_texts` and `Enrichment` ask it.

    `identity`: JSON object that tells this model with its weights and arithmetic from every other; it is part of the keys of cached
    answers. `card`: the identity and other facts for reports. `is_chat`: whether prompts may be a `Chat`; else they are a `PlainText`.
    `batch_size`: requests that are best handed over at once. `local`: asking costs this machine's time and nothing else.
    `begins_answers`: whether an answer can be made to go on from `Chat.answer_start`; else it is left out of the questions.
    `max_tokens`: of prompt and answer together, None where only the server knows.
    """

    identity: dict[str, str]
    card: dict[str, Any]
    is_chat: bool
    batch_size: int
    local: bool
    begins_answers: bool
    max_tokens: int | None

    def count_tokens(self, prompts: Sequence[Chat | PlainText]) -> list[int]:
        """Tokens of each prompt; an estimate where only a server has the tokenizer. Raises ModelError for a kind it does not take."""
        ...

    def complete(
        self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, Completion | ProviderError]]:
        """(place in `requests`, answer) in the order in which they are finished; a ProviderError as the answer is one request's
        own. Raises ProviderError where going on makes no sense.

        on_text: is given the text of a single request's answer, thoughts included: in pieces as it is written, or in one piece by
        models that show no pieces.
        """
        ...
