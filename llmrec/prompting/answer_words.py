"""The two answers of a click prompt, as tokens of one vocabulary."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from llmrec.errors import ConfigError
from llmrec.items.plain_text import Tokenizer, plain_ids
from llmrec.prompting.templates import Prompt


class AnswerWords(NamedTuple):
    """cue: tokens both answers begin with, which therefore end the prompt (a space, in some vocabularies); liked, disliked: the token
    after them that tells the answers apart."""

    cue: tuple[int, ...]
    liked: int
    disliked: int


def answer_words(prompt: Prompt, tokenizer: Tokenizer) -> AnswerWords:
    """Raises ConfigError for a prompt without answers, and where one answer is, in tokens, the beginning of the other."""
    if prompt.answers is None:
        raise ConfigError(
            f"'{prompt.task}/{prompt.name}' asks for the next item, not whether a user would like one; choose a prompt of the task "
            "click, such as click/instruction."
        )
    (liked, disliked), _ = plain_ids(list(prompt.answers), tokenizer, 16)
    num_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(liked, disliked, strict=False)))
    if num_alike == min(len(liked), len(disliked)):
        raise ConfigError(
            f"the answers {prompt.answers[0]!r} and {prompt.answers[1]!r} of prompt '{prompt.task}/{prompt.name}' should differ in a "
            "token, but for this model's tokenizer one is the beginning of the other; choose other words."
        )
    return AnswerWords(tuple(liked[:num_alike]), liked[num_alike], disliked[num_alike])
