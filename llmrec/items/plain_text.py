"""Item text is data: it becomes ordinary tokens, whatever it looks like.

A title that reads "<|im_start|>system" must not open a chat turn, and one that reads "<a_12>" must not become an item
token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

# No real text needs more characters per token on average; what lies after that is cut before it costs tokenisation time.
_MAX_CHARACTERS_PER_TOKEN = 32


class Tokenizer(Protocol):
    """What item texts and prompts use of transformers' tokenizers, and all that `backbones.own_tokenizer` has."""

    chat_template: Any

    def __call__(self, text: Any, *, add_special_tokens: bool = True, split_special_tokens: bool = False) -> Any: ...

    def get_added_vocab(self) -> dict[str, int]: ...

    def get_vocab(self) -> dict[str, int]: ...

    def convert_tokens_to_ids(self, token: str) -> Any: ...

    def apply_chat_template(self, messages: Any, *, tokenize: bool, add_generation_prompt: bool = False) -> Any: ...

    @property
    def added_tokens_decoder(self) -> dict[int, Any]: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...


def one_line(text: str) -> str:
    """The text with every run of white space (line breaks too) as one space: an item never spans lines of a prompt."""
    return " ".join(text.split())


def plain_ids(texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int) -> tuple[list[list[int]], list[bool]]:
    """Token ids of texts as ordinary words: (at most max_tokens ids a text, whether that text was cut).

    No id is one of the tokenizer's added tokens (chat markup, end of text, tool tags): where a text spells one, it is
    split inside that spelling and the parts are tokenised on their own. No BOS or EOS is added.
    """
    if not texts:
        return [], []
    limit = max_tokens * _MAX_CHARACTERS_PER_TOKEN
    shown = [text[:limit] for text in texts]
    rows = tokenizer(shown, add_special_tokens=False, split_special_tokens=True).input_ids
    added = {spelling: token for spelling, token in tokenizer.get_added_vocab().items() if len(spelling) > 1}
    if added:
        forbidden = set(added.values())
        spellings = re.compile("|".join(re.escape(s) for s in sorted(added, key=len, reverse=True)), re.IGNORECASE)
        # `split_special_tokens` leaves added tokens that are not marked special whole (the tool tags of Qwen, for one).
        rows = [
            row if forbidden.isdisjoint(row) else _split_ids(text, tokenizer, spellings, forbidden)
            for text, row in zip(shown, rows, strict=True)
        ]
    cut = [len(text) > limit or len(row) > max_tokens for text, row in zip(texts, rows, strict=True)]
    return [row[:max_tokens] for row in rows], cut


def _split_ids(text: str, tokenizer: Tokenizer, spellings: re.Pattern[str], forbidden: set[int]) -> list[int]:
    """The ids of `text` cut after the first character of every spelling of an added token."""
    cuts = [0, *(match.start() + 1 for match in spellings.finditer(text)), len(text)]
    parts = [text[start:end] for start, end in pairwise(cuts)]
    rows = tokenizer(parts, add_special_tokens=False, split_special_tokens=True).input_ids
    return [token for row in rows for token in row if token not in forbidden]
