"""Questions in messages, for models whose tokenizer only a server has: the prompt files of `PromptEncoder`, items as their titles."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.items.plain_text import one_line
from llmrec.prompting.encoder import Shot
from llmrec.prompting.templates import ITEM_SLOT, Prompt, PromptItem, as_value
from llmrec.text_models.openai import CHARACTERS_PER_TOKEN
from llmrec.text_models.protocol import Chat

_SLOT = re.compile(f"{ITEM_SLOT}([0-9]+){ITEM_SLOT}")


class Questions:
    """Chats about histories. Titles are cut after max_title_tokens estimated tokens, histories to their latest max_history items.

    shots: solved examples, as turns between the system message and the question.
    """

    def __init__(
        self, prompt: Prompt, catalog: Catalog, *, max_history: int, max_title_tokens: int, shots: Sequence[Shot] = ()
    ) -> None:
        self.prompt, self.catalog = prompt, catalog
        self.max_history, self.max_characters = max_history, CHARACTERS_PER_TOKEN * max_title_tokens
        self._before: list[tuple[str, str]] = []
        for shot in shots:
            asked = [turn for turn in self._turns(shot.history, shot.candidate, None) if turn[0] != "system"]
            self._before += [*asked, ("assistant", shot.answer.strip())]

    def chat(self, history: np.ndarray, *, candidate: int | None = None, choices: Sequence[int] | None = None) -> Chat:
        """The question about a history, oldest first, and an item or several to choose among."""
        turns = self._turns(history, candidate, choices)
        system = [turn for turn in turns if turn[0] == "system"]
        return Chat((*system, *self._before, *[turn for turn in turns if turn[0] != "system"]))

    def title(self, item: int) -> str:
        """As it is shown: on one line, cut; the item_id where there is none."""
        text = one_line(self.catalog.text(item, "title"))[: self.max_characters]
        return text or self.catalog.item_id(item)

    def _turns(
        self, history: np.ndarray, candidate: int | None, choices: Sequence[int] | None
    ) -> list[tuple[str, str]]:
        shown = [int(item) for item in history[-self.max_history :]]
        asked = [candidate] if candidate is not None else list(choices or ())
        items = [
            PromptItem(place, {field: self._field(item, field) for field in self.prompt.fields})
            for place, item in enumerate([*shown, *asked])
        ]
        told = items[len(shown) :]
        texts = self.prompt.render(
            items[: len(shown)],
            candidate=told[0] if candidate is not None else None,
            candidates=told if choices is not None else None,
        )
        all_items = [*shown, *asked]

        def titled(slot: re.Match[str]) -> str:
            return as_value(self.title(all_items[int(slot[1])]))

        return [
            (message.role, _SLOT.sub(titled, text).strip())
            for message, text in zip(self.prompt.messages, texts, strict=True)
        ]

    def _field(self, item: int, field: str) -> str:
        return self.title(item) if field == "title" else one_line(self.catalog.text(item, field))
