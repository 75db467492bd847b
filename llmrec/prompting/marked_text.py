"""A rendered text as tokens: markup where the prompt or a chat template spells it, plain words for values, items in their slots."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from llmrec.items.plain_text import Tokenizer, plain_ids
from llmrec.prompting.templates import ITEM_SLOT, VALUE_CLOSE, VALUE_OPEN


class MarkedText:
    """One tokenizer's reading of marked texts. max_tokens: of a piece of words, the rest is cut."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._pattern = _mark_pattern(tokenizer)
        # Some added tokens swallow the white space around them (Phi, Mistral); AddedToken says which.
        self._added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
        self._ordinary_ids = lru_cache(maxsize=4096)(self._tokenise)

    def ids(
        self, marked: str, prefix: Sequence[int], item_ids: Callable[[int], list[int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The prefix and the tokens of a marked text, and [start, end) of each item slot: added tokens where the prompt or the chat
        template spells them, ordinary words for all that values hold, `item_ids(slot)` in the slots. Text between two of those is
        tokenised as one piece, values included."""
        ids: list[int] = list(prefix)
        spans: list[tuple[int, int]] = []
        text, position, strip_next = "", 0, False
        for match in self._pattern.finditer(marked):
            text += marked[position : match.start()]
            position = match.end()
            if match["value"] is not None:
                text += match["value"]
                continue
            added = self._added[match["added"]] if match["added"] else None
            ids += self._ordinary_ids(_stripped(text, strip_next, added is not None and added.lstrip))
            text, strip_next = "", added is not None and added.rstrip
            if added is not None:
                ids.append(self.tokenizer.convert_tokens_to_ids(added.content))
            else:
                tokens = item_ids(int(match["slot"]))
                spans.append((len(ids), len(ids) + len(tokens)))
                ids += tokens
        ids += self._ordinary_ids(_stripped(text + marked[position:], strip_next, False))
        return ids, spans

    def _tokenise(self, text: str) -> list[int]:
        return plain_ids([text], self.tokenizer, self.max_tokens)[0][0] if text else []


def _mark_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Finds values, item slots and the spellings of the tokenizer's added tokens in a marked text."""
    spellings = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    added = "|".join(re.escape(spelling) for spelling in spellings) or "(?!)"
    value = f"{VALUE_OPEN}(?P<value>[^{VALUE_CLOSE}]*){VALUE_CLOSE}"
    return re.compile(f"{value}|{ITEM_SLOT}(?P<slot>[0-9]+){ITEM_SLOT}|(?P<added>{added})")


def _stripped(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text
