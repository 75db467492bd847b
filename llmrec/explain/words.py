"""Words about recommendations from a language model: why an item, and answers to questions about items.

What is measured (`evidence`) and what a model writes are kept apart: an `Explanation` carries both and says who wrote its text. The
model is told the facts, and its text is refused where it names other titles (`hallucinated_titles`): after a second draft the plain
sentences of the evidence are shown instead. Nothing else of its prose is checked. Titles, columns and questions are data in its prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from llmrec.artifacts.manifest import IN_WORDS, LANGUAGE_MODEL
from llmrec.artifacts.run_folder import find_backbone, read_manifest
from llmrec.data.catalog import Catalog
from llmrec.errors import ModelError, RequestError
from llmrec.explain.evidence import Evidence, title_of
from llmrec.explain.hallucinated_titles import hallucinated_titles
from llmrec.items.plain_text import one_line
from llmrec.prompting.templates import PromptItem, load_prompt
from llmrec.terminal import printable
from llmrec.text_models.generation import generate_texts
from llmrec.text_models.protocol import Chat, PlainText, TextModel, without_marks
from llmrec.text_models.settings import TextModelSettings

LIKED_SHOWN = 5  # history items the model is told of: those that matter most
EXPLANATION_TOKENS, ANSWER_TOKENS = 64, 96
MAX_SENTENCES = 2  # what the prompts ask for; small models do not know when to stop
MAX_QUESTION_CHARACTERS = 500
_TITLE_CHARACTERS, _FIELD_CHARACTERS, _DETAILS_CHARACTERS = 150, 200, 400
NOT_SUITING = "Nothing measured says that it suits, so no language model was asked to say why it does."
_DRAFTS = (0.0, 0.7)  # temperatures: the likeliest text, then a sampled one
# not after initials and the titles of persons
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b[MDS][rst]\.)(?<!\bMrs\.)\s+(?=[\"“A-Z0-9])")


@dataclass(frozen=True)
class Explanation:
    """Why an item suits a history. evidence: what was measured; text: prose about it.

    written_by: the language model, or the evidence itself where no draft of the model's could be used; refused: the names for which
    drafts were refused; language_model: the card of the model that was asked, None where none was; note: why none was.
    """

    text: str
    written_by: Literal["language model", "evidence"]
    refused: tuple[str, ...]
    evidence: Evidence
    language_model: dict[str, Any] | None
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """A model's own words about items. hallucinated_titles: names in it that it was not told of; they are no recommendations."""

    text: str
    hallucinated_titles: tuple[str, ...]
    language_model: dict[str, Any]


def measured_alone(evidence: Evidence, note: str) -> Explanation:
    """The explanation without a language model. note: why none was asked."""
    return Explanation(evidence.sentences, "evidence", (), evidence, None, note)


def explain(catalog: Catalog, history: Sequence[str], evidence: Evidence, model: TextModel) -> Explanation:
    """Has `model` say why the item suits the history, from what was measured of it (`evidence.measure`).

    Where the measurement does not say that it suits, no model is asked to say so: the facts stand alone.

    Raises RequestError where the facts are more than the model reads.
    """
    if not evidence.suits:
        return measured_alone(evidence, NOT_SUITING)
    liked = [influence.item_id for influence in evidence.influences[:LIKED_SHOWN]]
    asked = text_prompt("explain", catalog, liked, [evidence.item_id], evidence.reasons, is_chat=model.is_chat)
    facts = asked.words
    if isinstance(asked, Chat) and not model.begins_answers:
        asked, beginning = replace(asked, answer_start=""), ""
    else:
        beginning = facts.rpartition("\n")[2]
    given = [title_of(catalog, other) for other in dict.fromkeys([*history, evidence.item_id])]
    refused: list[str] = []
    for temperature in _DRAFTS:
        (draft,) = generate_texts(model, [asked], max_new_tokens=EXPLANATION_TOKENS, temperature=temperature)
        text = first_sentences(beginning + draft.text, finished=draft.finished)
        names = hallucinated_titles(text, catalog, given, facts)
        if not names and _is_readable(text.removeprefix(beginning)):
            return Explanation(text, "language model", tuple(dict.fromkeys(refused)), evidence, model.card)
        refused += names
    return Explanation(evidence.sentences, "evidence", tuple(dict.fromkeys(refused)), evidence, model.card)


def answer(
    catalog: Catalog,
    question: str,
    liked: Sequence[str],
    shown: Sequence[str],
    model: TextModel,
    *,
    on_text: Callable[[str], None] | None = None,
) -> Answer:
    """What `model` says to a question about items, told what the catalogue knows of them. liked, shown: item ids.

    on_text: is given the text piece by piece as it is written, before it is known whom it names.

    Raises RequestError for an empty or overlong question, where there are no items, and where they are more than the model reads.
    """
    if not question.strip() or len(question) > MAX_QUESTION_CHARACTERS:
        raise RequestError(
            f"a question has 1 to {MAX_QUESTION_CHARACTERS} characters; this one has {len(question.strip())}. Ask another."
        )
    if not liked and not shown:
        raise RequestError("there are no titles yet that a question could be about. Name some that you liked first.")
    asked = text_prompt("ask", catalog, liked, shown, one_line(question), is_chat=model.is_chat)
    (found,) = generate_texts(model, [asked], max_new_tokens=ANSWER_TOKENS, on_text=on_text)
    given = [title_of(catalog, item_id) for item_id in dict.fromkeys([*liked, *shown])]
    return Answer(found.text.strip(), tuple(hallucinated_titles(found.text, catalog, given, asked.words)), model.card)


def text_prompt(
    task: Literal["explain", "ask"],
    catalog: Catalog,
    liked: Sequence[str],
    recommended: Sequence[str],
    instruction: str,
    *,
    is_chat: bool,
) -> Chat | PlainText:
    """The shipped prompt of a task about these items: messages for a model with a chat template, else a text.

    An explanation's answer goes on from the start that the chat gives it, or from the text's last line.
    """
    prompt = load_prompt(f"{task}/chat" if is_chat else f"{task}/plain")
    roles = [(item_id, "liked") for item_id in liked] + [(item_id, "recommended") for item_id in recommended]
    items = []
    for position, (item_id, role) in enumerate(roles):
        title = one_line(title_of(catalog, item_id))[:_TITLE_CHARACTERS]
        items.append(PromptItem(position, {"title": title, "details": details(catalog, item_id), "role": role}))
    texts = prompt.render(items, instruction)
    if prompt.messages is None:
        return PlainText(texts[0])
    turns = [(message.role, text) for message, text in zip(prompt.messages, texts, strict=True)]
    answer_start = without_marks(turns.pop()[1]) if turns[-1][0] == "assistant" else ""
    return Chat(tuple(turns), answer_start)


def without_language_model(folder: Path | None) -> str:
    """Why a recommender has no language model of its own that could write, and how to get words all the same; "" where it has one.

    folder: of the model; None for a recommender made in memory.
    """
    how = "Name one for words (--model NAME)."
    if folder is None:
        return f"this recommender was made in memory, so it has no language model of its own. {how}"
    manifest = read_manifest(folder)
    if manifest["kind"] != LANGUAGE_MODEL:
        return f"this run is {IN_WORDS[manifest['kind']]}, so it has no language model of its own. {how}"
    if manifest["source"]["source"] == "scratch":
        return f"this run was trained from random weights, so it has no language model that could write. {how}"
    return ""


def own_language_model(folder: Path | None) -> TextModelSettings:
    """The model that the run in a model folder was trained from, with its weights as they were.

    Raises ModelError where there is none, see `without_language_model`.
    """
    if why := without_language_model(folder):
        raise ModelError(why)
    manifest = read_manifest(folder)
    source = manifest["source"]
    name = find_backbone(manifest["backbone"], source)
    if source["source"] == "hub":
        return TextModelSettings(model=name, weights="hub", revision=source["revision"])
    return TextModelSettings(model=name)


def first_sentences(text: str, *, finished: bool) -> str:
    """The first MAX_SENTENCES whole sentences of the first paragraph; "" where there is none.

    finished: whether the text was ended, so that what stands after the last full stop is a sentence too.
    """
    paragraph, rest, _ = text.strip().partition("\n")
    sentences = _SENTENCE_END.split(paragraph.strip())
    if not (finished or rest) and not sentences[-1].endswith((".", "!", "?")):
        sentences = sentences[:-1]
    return " ".join(dict.fromkeys(sentences[:MAX_SENTENCES]))


def _is_readable(text: str) -> bool:
    """Whether it has three words and neither control characters nor broken ones."""
    return len(text.split()) >= 3 and "\ufffd" not in text and printable(text) == one_line(text)


def details(catalog: Catalog, item_id: str) -> str:
    """What the catalogue says of an item besides its title: "year: 1977; genres: Action, War", cut where it is long."""
    (item,) = catalog.index([item_id]).tolist()
    parts = []
    for field in catalog.word_fields:
        text = one_line(catalog.text(item, field))[:_FIELD_CHARACTERS]
        if text and field != "title" and not _is_a_number_of_its_own(catalog, field, text):
            parts.append(f"{field}: {text}")
    return "; ".join(parts)[:_DETAILS_CHARACTERS]


def _is_a_number_of_its_own(catalog: Catalog, field: str, text: str) -> bool:
    """Whether a column numbers the items (another shop's ids): it tells a reader nothing."""
    if not text.isdecimal() or field == "year":
        return False
    column = catalog.table[field]
    return pc.count_distinct(column, mode="only_valid").as_py() > 0.9 * pc.count(column, mode="only_valid").as_py()
