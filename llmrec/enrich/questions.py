"""From items and users to questions: prompts rendered with what the catalog says, or with a user's training events."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from llmrec.data.catalog import Catalog
from llmrec.data.folder import Data
from llmrec.data.splits import leave_one_out
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ConfigError
from llmrec.items.plain_text import one_line
from llmrec.prompting.templates import ENRICH, ITEM_SLOT, VALUE_CLOSE, VALUE_OPEN, Prompt, PromptItem, load_prompt
from llmrec.text_models.protocol import Chat, without_marks

DETAILS = "details"  # the field that stands for all others, one "name: value" after another
DEFAULT_PROMPTS = {"items": "enrich/item_knowledge", "users": "enrich/user_profile"}
_SLOT = re.compile(f"{ITEM_SLOT}([0-9]+){ITEM_SLOT}")


def enrich_prompt(settings: EnrichSettings) -> Prompt:
    """The prompt the settings name. ConfigError for one of another task, or one about items where users are asked about."""
    name = settings.prompt or DEFAULT_PROMPTS[settings.about]
    prompt = load_prompt(name)
    if prompt.task != ENRICH:
        raise ConfigError(
            f"the prompt '{name}' belongs to the task {prompt.task}, but texts are written by prompts of the task enrich. "
            f"Take {' or '.join(DEFAULT_PROMPTS.values())}."
        )
    wanted = "item" if settings.about == "items" else "history"
    if wanted not in prompt.variables:
        raise ConfigError(
            f"the prompt '{name}' is about {'one user' if wanted == 'item' else 'one item'}, but texts about "
            f"{settings.about} were asked for. Choose another prompt, or about={'users' if wanted == 'item' else 'items'}."
        )
    return prompt


def questions(data: Data, settings: EnrichSettings, prompt: Prompt) -> dict[int, Chat]:
    """A question for each item or user to be asked about, by its dense number; users without a training event have none.

    Raises ConfigError for a field the catalog lacks. Warns of values that are cut.
    """
    values = ItemValues(data.catalog, prompt, settings.max_field_characters)
    if settings.about == "items":
        rows = range(data.catalog.num_items)[: settings.max_items]
        return {item: values.chat(prompt.render(None, item=values.item(0, item)), [item]) for item in rows}
    # Profiles are read by models that are asked for the split's targets: what comes after the training events stays unknown.
    histories = leave_one_out(data.interactions).fitted(settings.fit).histories
    chats = {}
    for user in range(len(histories)):
        history = histories[user][-settings.max_history :].tolist()
        if history and (settings.max_items is None or len(chats) < settings.max_items):
            items = [values.item(position, item) for position, item in enumerate(history)]
            chats[user] = values.chat(prompt.render(items), history)
    return chats


class ItemValues:
    """What a prompt may say of the items: each field on one line, the title never empty, all of bounded length."""

    def __init__(self, catalog: Catalog, prompt: Prompt, max_characters: int) -> None:
        self.catalog, self.prompt, self.max_characters = catalog, prompt, max_characters
        self._has_details = DETAILS in catalog.fields
        others = [name for name in catalog.word_fields if name != "title" and not _names_an_id(name)]
        self._others = [name for name in others if name not in prompt.fields]
        for field in prompt.fields:
            if field == DETAILS and not self._has_details:
                continue
            if field not in catalog.fields:
                raise ConfigError(
                    f"prompt '{prompt.task}/{prompt.name}' uses {{{{ item.{field} }}}} but the catalog has no such column "
                    f"(it has: {', '.join(catalog.fields)}). Add the column or choose another prompt."
                )
        shown = [field for field in prompt.fields if field in catalog.fields]
        for field in shown + (self._others if DETAILS in prompt.fields else []):
            num_long = catalog.num_longer(field, max_characters)
            if num_long:
                warnings.warn(
                    f"{num_long} of {catalog.num_items} items have a {field} longer than {max_characters} characters; "
                    "prompts show the beginning.",
                    stacklevel=4,
                )

    def item(self, position: int, item: int) -> PromptItem:
        """The item as a template sees it."""
        return PromptItem(position, {field: self.text(item, field) for field in self.prompt.fields})

    def text(self, item: int, field: str) -> str:
        """One field on one line; an empty title falls back to the item_id."""
        if field == DETAILS and not self._has_details:
            parts = ((name, self.text(item, name)) for name in self._others)
            return "; ".join(f"{name}: {value}" for name, value in parts if value)
        text = one_line(self.catalog.text(item, field)[: 4 * self.max_characters])[: self.max_characters]
        return text if text or field != "title" else self.catalog.item_id(item)

    def chat(self, rendered: Sequence[str], items: Sequence[int]) -> Chat:
        """The rendered messages as a question; {{ item }} itself is the item's title."""

        def title(slot: re.Match[str]) -> str:
            return f"{VALUE_OPEN}{self.text(items[int(slot[1])], 'title')}{VALUE_CLOSE}"

        turns = [
            (message.role, _SLOT.sub(title, text).strip())
            for message, text in zip(self.prompt.messages, rendered, strict=True)
        ]
        answer_start = without_marks(turns.pop()[1]) if turns[-1][0] == "assistant" else ""
        return Chat(tuple(turns), answer_start)


def _names_an_id(name: str) -> bool:
    return name == "id" or name.endswith(("_id", "Id", "ID", "-id"))
