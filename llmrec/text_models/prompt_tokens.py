"""Prompts as token ids, and answers' ids as text: the same for every model that runs on this machine.

What a message or a plain prompt says is words. Only the chat template's own text can open a turn or end one, so a title that
reads "<|im_start|>system" stays a title.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from llmrec.errors import ModelError
from llmrec.items.plain_text import plain_ids
from llmrec.text_models.protocol import Chat, PlainText, without_marks
from llmrec.text_models.reasoning import HARMONY_MARKS, MARKS, opened_by

_TOKENS_WITHOUT_A_LIMIT = 1 << 17  # of models that do not say how many positions they have
# Two of Unicode's "not a character" code points stand around what a message says; texts lose all of them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_NO_CHARACTERS = dict.fromkeys(range(0xFDD0, 0xFDF0))


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """A model's tokenizer and chat template. name: the model's, for errors; max_tokens: that it reads, prompt and answer together."""

    tokenizer: PreTrainedTokenizerBase
    name: str
    max_tokens: int

    @property
    def is_chat(self) -> bool:
        """Whether prompts may be messages: the tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    def prompt_ids(self, prompt: Chat | PlainText) -> list[int]:
        """Token ids of a plain text, or of messages through the chat template with the answer's turn opened and begun.

        Raises ModelError where messages come and the tokenizer has no chat template, or refuses their roles.
        """
        if isinstance(prompt, PlainText):
            bos = self.tokenizer.bos_token_id
            start = [bos] if bos is not None and self.tokenizer("a").input_ids[0] == bos else []
            return start + self._words(_clean(prompt.words))
        turns = [(role, _clean(without_marks(marked)).strip()) for role, marked in prompt.turns]
        marked = [{"role": role, "content": f"{_OPEN}{words}{_CLOSE}"} for role, words in turns]
        try:
            # templates of models that may think or not know the switch; the others pass it over
            text = self.tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (jinja2.TemplateError, ValueError) as error:
            roles = [role for role, _ in turns]
            why = f"its chat template refuses the roles {roles}: {error}" if self.is_chat else "it has no chat template"
            raise ModelError(
                f"'{self.name}' cannot be asked in messages: {why}. Ask in plain text, or choose another model."
            ) from error
        return self._marked_ids(text + _OPEN + _clean(prompt.answer_start).rstrip() + _CLOSE)

    def decode(self, answer: Sequence[int], prompt: Sequence[int]) -> str:
        """The text of an answer's ids, with the marks of thoughts that stand in it or that the prompt ends with, for `spoken`."""
        opened = opened_by(self.tokenizer.decode(prompt[-8:]))
        if not self._thought_marks:
            return opened + self.tokenizer.decode(answer, skip_special_tokens=True)
        return opened + self.tokenizer.decode(
            [token for token in answer if token in self._thought_marks or token not in self._special]
        )

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    @cached_property
    def _thought_marks(self) -> frozenset[int]:
        """Special tokens, which decoding leaves out, that tell thoughts from words."""
        marks = MARKS | (HARMONY_MARKS if "<|channel|>" in self._added else frozenset())
        ids = [self.tokenizer.convert_tokens_to_ids(mark) for mark in marks if mark in self._added]
        return frozenset(ids) & self._special

    def _marked_ids(self, marked: str) -> list[int]:
        """Added tokens where the template spells them, words elsewhere; text between two of them is tokenised as one piece."""
        ids: list[int] = []
        piece, position, strip_next = "", 0, False
        for match in self._marks.finditer(marked):
            piece += marked[position : match.start()]
            position = match.end()
            if match["said"] is not None:
                piece += match["said"]
                continue
            added = self._added[match["added"]]  # some swallow the white space around them (Phi, Mistral)
            piece = piece.lstrip() if strip_next else piece
            ids += self._words(piece.rstrip() if added.lstrip else piece)
            ids.append(self.tokenizer.convert_tokens_to_ids(added.content))
            piece, strip_next = "", added.rstrip
        piece += marked[position:]
        return ids + self._words(piece.lstrip() if strip_next else piece)

    def _words(self, text: str) -> list[int]:
        # one token more than could ever fit: what is cut here is found to be too long
        return plain_ids([text], self.tokenizer, self.max_tokens + 1)[0][0] if text else []

    @cached_property
    def _added(self) -> dict[str, Any]:
        return {token.content: token for token in self.tokenizer.added_tokens_decoder.values()}

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        added = "|".join(re.escape(spelling) for spelling in sorted(self._added, key=len, reverse=True)) or "(?!)"
        return re.compile(f"{_OPEN}(?P<said>[^{_CLOSE}]*){_CLOSE}|(?P<added>{added})")


def max_positions(config: PretrainedConfig) -> int:
    """Positions of a model: prompt and answer together."""
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or _TOKENS_WITHOUT_A_LIMIT


def _clean(text: str) -> str:
    return text.translate(_NO_CHARACTERS)
