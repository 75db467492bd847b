"""Alignment tasks: training examples that tie an item's tokens to its words (LC-Rec, Zheng et al. 2024, section 3.3; MiniOneRec).

| task | an example for each | the prompt shows | the answer |
|---|---|---|---|
| title_to_item | item | its title | the item's tokens |
| description_to_item | item | its description | the item's tokens |
| item_to_title | item | its tokens | its title |
| item_to_description | item | its tokens | its description |
| history_to_title | event | the items before it | the title of the event's item |
| history_to_description | event | the items before it | the description of the event's item |
| titles_to_item | event | the titles of the items before it | the event's item |
| fused_to_item | event | the items before it, tokens and titles | the event's item |
| query_to_item | event | the items before it, a wish that its item fulfils | the event's item |
| history_to_preference | user | all the user's items | a summary of the user's taste |

Examples of items may use the whole catalogue: content is no interaction. Examples of events and users are made from the histories
that are given, so give the training part of a split. Every text is data: plain words even where it spells chat markup or an item's
token.

A text answer ends with the tokenizer's EOS. Its targets are words (ids below V), which are scored over words and item tokens together;
targets that are item tokens keep the softmax scope that items are decoded by (`compute_loss` of recipes/next_item.py).

Letters: V rows of the base embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError, DataError, RequestError
from llmrec.items.plain_text import one_line
from llmrec.prompting.alignment_examples import CHARACTERS_A_TOKEN, AlignmentExamples, Shown
from llmrec.prompting.encoder import MAX_FIELD_CHARACTERS, PromptEncoder
from llmrec.prompting.templates import load_prompt


@dataclass(frozen=True)
class AlignmentTask:
    """What a task has an example for, the text its prompt needs besides titles, and what answers it; the prompt is align/<its name>."""

    each: Literal["item", "event", "user"]
    answer: Literal["item", "title", "description", "preference"]
    shows: Literal["item", "title", "description", "query"] = "item"

    @property
    def texts(self) -> set[str]:
        """The texts the task cannot do without: title, description, query, preference."""
        return {self.answer, self.shows} - {"item"}


TASKS = {
    "title_to_item": AlignmentTask("item", "item", shows="title"),
    "description_to_item": AlignmentTask("item", "item", shows="description"),
    "item_to_title": AlignmentTask("item", "title"),
    "item_to_description": AlignmentTask("item", "description"),
    "history_to_title": AlignmentTask("event", "title"),
    "history_to_description": AlignmentTask("event", "description"),
    "titles_to_item": AlignmentTask("event", "item", shows="title"),
    "fused_to_item": AlignmentTask("event", "item", shows="title"),
    "query_to_item": AlignmentTask("event", "item", shows="query"),
    "history_to_preference": AlignmentTask("user", "preference"),
}
WHERE_FROM = {
    "description": "name the catalogue's columns that describe an item in alignment.description, or texts of `llmrec enrich` in "
    "alignment.generated_texts",
    "query": "write what somebody who wants the item would type, `llmrec enrich DATA --model MODEL --prompt enrich/item_query --name "
    "queries`, and name it: alignment.queries=queries",
    "preference": "name texts of `llmrec enrich` about users in alignment.preferences",
}


@dataclass(frozen=True)
class AlignmentTexts:
    """The texts that stand for items and users; an empty one or None: there is none, and the examples that need it are left out.

    titles, descriptions, queries: num_items each. preferences: one per user. None instead of a list: there are no such texts at all.
    """

    titles: Sequence[str]
    descriptions: Sequence[str | None] | None = None
    queries: Sequence[str | None] | None = None
    preferences: Sequence[str | None] | None = None

    def of(self, kind: str) -> list[str] | None:
        """The texts of a kind (title, description, query, preference), each on one line, "" where there is none."""
        texts = {
            "title": self.titles,
            "description": self.descriptions,
            "query": self.queries,
            "preference": self.preferences,
        }[kind]
        return None if texts is None else [one_line(text or "") for text in texts]


def find_task(name: str) -> AlignmentTask:
    """The task of that name. Raises ConfigError for one that does not exist, naming the nearest."""
    if name not in TASKS:
        raise ConfigError(
            f"there is no alignment task '{name}'; the nearest is '{nearest_words(name, list(TASKS), 1)[0]}'. "
            f"Tasks: {', '.join(TASKS)}."
        )
    return TASKS[name]


def alignment_examples(
    name: str,
    texts: AlignmentTexts,
    histories: Histories,
    catalog: Catalog,
    like: PromptEncoder,
    *,
    max_answer_tokens: int,
) -> AlignmentExamples:
    """The examples of one task.

    histories: what may be learned from, one per user. like: whose item forms, soft prompt and limits they have.
    max_answer_tokens: of a text answer, EOS included.

    Raises ConfigError for a task that does not exist, has no texts, ties an item to itself or cannot fit max_tokens; DataError where
    not one example has its text; ModelError for a tokenizer that the task's prompt or answers cannot use.
    """
    task = find_task(name)
    _check_forms(name, like)
    needed = {kind: _needed(name, kind, texts) for kind in sorted(task.texts)}
    shown = _shown(name, task, needed, histories, catalog.num_items)
    if "description" in needed:
        catalog = _with_column(catalog, "description", needed["description"])
    prompt = load_prompt(f"align/{name}")
    words = 0 if task.answer == "item" else max_answer_tokens
    encoder = PromptEncoder(
        prompt, like.tokenizer, like.item_tokens, catalog,
        max_history=like.max_history, history_step=like.history_step, max_tokens=like.max_tokens - words,
        prompt_sequences=like.prompt_sequences, soft_prompt=like.soft_prompt,
    )  # fmt: skip
    queries = [query[:MAX_FIELD_CHARACTERS] for query in needed["query"]] if "query" in needed else None
    _check_room(encoder, name, task, shown, needed, queries)
    characters = np.zeros(catalog.num_items)  # that an item's fields take in the prompt
    for field in prompt.fields:
        characters += [min(len(catalog.text(item, field)), MAX_FIELD_CHARACTERS) for item in range(catalog.num_items)]
    return AlignmentExamples(
        encoder,
        shown,
        encoder.prompt_sequences.lengths + characters / CHARACTERS_A_TOKEN,
        answers=needed.get(task.answer),
        queries=queries,
        max_answer_tokens=max_answer_tokens,
    )


def describe_items(catalog: Catalog, fields: Sequence[str]) -> list[str]:
    """A description of each item from columns of the catalogue: the text of one column, or "column: text. column: text" of several.

    Raises ConfigError for a column that is not there.
    """
    for field in fields:
        if field not in catalog.fields:
            raise ConfigError(
                f"alignment.description names the column '{field}', but the catalog has: {', '.join(catalog.fields)}. Name columns "
                "that describe an item, or leave out the tasks about descriptions."
            )
    if len(fields) == 1:
        return [catalog.text(item, fields[0]) for item in range(catalog.num_items)]
    return catalog.texts(fields)


def _check_forms(name: str, like: PromptEncoder) -> None:
    """Words that are tied to the same words would be copied, and nothing learned."""
    prompt_sequences = like.prompt_sequences.sequences
    if like.item_tokens.form == "text":
        raise ConfigError(
            f"the alignment task '{name}' ties an item's own tokens to its words, but in the text form an item is its words. Use items "
            "as unique or semantic ids, or leave alignment out."
        )
    if (
        name == "item_to_title"
        and ((prompt_sequences >= 0) & (prompt_sequences < like.item_tokens.base_vocab_size)).any()
    ):
        raise ConfigError(
            f"the alignment task '{name}' asks for the title of an item, but prompts write items as their titles. Leave the task "
            "out, or take text out of items.prompt_form."
        )


def _shown(name: str, task: AlignmentTask, needed: dict[str, list[str]], histories: Histories, num_items: int) -> Shown:
    """The task's examples, without those that lack a text."""
    if task.each == "item":
        shown = Shown.of_items(num_items)
    else:
        shown = Shown.of_events(histories) if task.each == "event" else Shown.of_users(histories)
    for kind, values in needed.items():
        is_of_history = task.each == "event" and kind == task.shows == "title"  # and not of what the example is about
        if not is_of_history:
            shown = shown.where(np.array([bool(text) for text in values])[shown.about])
    if not len(shown.users):
        raise DataError(
            f"the alignment task '{name}' has no example: no {task.each} has a {' and a '.join(needed)} to train on. Leave it out."
        )
    return shown


def _needed(name: str, kind: str, texts: AlignmentTexts) -> list[str]:
    values = texts.of(kind)
    if values is None:
        raise ConfigError(
            f"the alignment task '{name}' needs a {kind} of each {'user' if kind == 'preference' else 'item'}, and there is none: "
            f"{WHERE_FROM[kind]}; or leave the task out."
        )
    return values


def _with_column(catalog: Catalog, name: str, values: Sequence[str]) -> Catalog:
    table = catalog.table.drop_columns([name]) if name in catalog.fields else catalog.table
    return Catalog(table.append_column(name, pa.array(values, pa.string())))


def _check_room(
    encoder: PromptEncoder,
    name: str,
    task: AlignmentTask,
    shown: Shown,
    texts: dict[str, list[str]],
    queries: list[str] | None,
) -> None:
    """A text too long for the prompt would cut the item out of its own example, which would then ask for nothing."""
    if task.each == "item":
        longest = max(shown.about.tolist(), key=lambda item: max(len(values[item]) for values in texts.values()))
        fits = len(encoder.encode([longest])) > len(encoder.encode([]))
    elif queries is not None:
        fits = _fits(encoder, max(queries, key=len))
    else:
        return
    if not fits:
        raise ConfigError(
            f"the longest text of the alignment task '{name}' does not fit in prompt.max_tokens={encoder.max_tokens}. Raise it."
        )


def _fits(encoder: PromptEncoder, query: str) -> bool:
    try:
        encoder.encode([], query)
    except RequestError:
        return False
    return True
