"""A recommender's conversations: what a turn asks (`conversation.asks`), answered by ranking, measuring and writing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from llmrec.conversation.asks import AnswerQuestion, Ask, Explain, Rank, Ranked, ReadByModel, Reasons
from llmrec.conversation.edits import Wishes
from llmrec.conversation.model_readers import ModelReaders, WishReading, checked_wishes
from llmrec.conversation.reader import NoRules, Reader
from llmrec.conversation.session import Reply, Session
from llmrec.conversation.turn import turn
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch
from llmrec.errors import LlmrecError
from llmrec.explain.evidence import Evidence, measure
from llmrec.explain.lines import RunningLine, answer_notes, answer_start, explanation_lines
from llmrec.explain.reasons import reasons
from llmrec.explain.words import Explanation, answer, without_language_model
from llmrec.explain.writers import Writer
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Ranker
from llmrec.recommenders.steering import Steering
from llmrec.text_models.protocol import TextModel
from llmrec.text_models.settings import TextModelSettings


class Recommends(Protocol):
    """Who answers: `llmrec.Recommender`, and anything that does as it does."""

    catalog: Catalog
    folder: Path | None
    ranker: Ranker
    item_vectors: Callable[[np.ndarray], np.ndarray] | None

    def recommend(
        self, history: Sequence[str], k: int = ..., *, where: Sequence = ..., exclude: Collection[str] = ...,
        steering: Steering | None = ..., instruction: str | None = ...,
    ) -> Sequence[Ranked]: ...  # fmt: skip

    def score_batch(
        self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]], *, instructions: Sequence[str] | None = ...
    ) -> list[list[float]]: ...  # fmt: skip

    def explain_evidence(
        self, history: Sequence[str], evidence: Evidence, language_model: Writer = ...
    ) -> Explanation: ...

    def text_model(
        self, named: str | TextModelSettings | None = ..., on_load: Callable[[], None] = ...
    ) -> TextModel: ...


class Conversations:
    """Answers the messages of any number of conversations, each a `Session`; threads may talk with one each at a time.

    The reader is made when it is first needed: it looks at every title of the catalogue.
    """

    def __init__(self, recommender: Recommends) -> None:
        self._recommender = recommender
        self._wishes: WishReading = "rules"
        self._reader: Reader | None = None
        self._by_model: ModelReaders | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()  # one thread at a time each

    @property
    def wishes(self) -> WishReading:
        """Who reads messages; see `Recommender.wishes`."""
        return self._wishes

    @wishes.setter
    def wishes(self, wishes: WishReading) -> None:  # raises ConfigError for nobody
        self._wishes = checked_wishes(wishes)

    @property
    def reader(self) -> Reader:
        """What reads messages, with the index of titles and the columns; one thread at a time reads with it."""
        with self._reading:
            return self._readers()[0]

    def _readers(self) -> tuple[Reader, ModelReaders]:
        if self._reader is None or self._by_model is None or self._by_model.wishes != self.wishes:
            search = None if self._reader is None else self._reader.search
            self._reader = reader_of(self._recommender, search, self.wishes)
            self._by_model = ModelReaders(self.wishes, self._reader)
        return self._reader, self._by_model

    def reply(
        self,
        session: Session,
        text: str,
        language_model: Writer,
        on_text: Callable[[str], None] | None,
        on_wait: Callable[[str], None] | None,
    ) -> Reply:
        """See `Recommender.converse`."""
        with self._reading:
            reader, by_model = self._readers()
        steps = turn(reader, session, text)
        given: object = None
        while True:
            try:
                with self._reading:
                    ask = steps.throw(given) if isinstance(given, LlmrecError) else steps.send(given)
            except StopIteration as end:
                return end.value
            try:
                given = self._answered(ask, by_model, language_model, on_text, on_wait)
            except LlmrecError as error:  # of this step: the reply says it
                given = error

    def _answered(
        self,
        ask: Ask,
        by_model: ModelReaders,
        language_model: Writer,
        on_text: Callable[[str], None] | None,
        on_wait: Callable[[str], None] | None,
    ) -> Sequence[Ranked] | Sequence[str] | Wishes | str:
        recommender = self._recommender
        match ask:
            case Rank():
                return recommender.recommend(
                    ask.history, ask.k, where=ask.filter.where, exclude=ask.filter.exclude, steering=ask.steering,
                    instruction=ask.instruction,
                )  # fmt: skip
            case Reasons():
                found = reasons(
                    recommender, ask.history, ask.item_ids, steering=ask.steering, instruction=ask.instruction
                )
                return [reason.text for reason in found]
            case Explain():
                evidence = measure(recommender, ask.history, ask.item_id, instruction=ask.instruction)
                with self._writing:
                    return explained(recommender, ask, evidence, language_model, on_wait)
            case AnswerQuestion():
                with self._writing:
                    return question_answered(recommender, ask, language_model, on_text, on_wait)
            case ReadByModel():
                with self._writing:
                    return read_by_model(recommender, ask, by_model, language_model, on_wait)


def reader_of(recommender: Recommends, search: TitleSearch | None, wishes: WishReading) -> Reader:
    """Reads messages to a recommender. search: the index of its titles, where there is one already; wishes: who reads them."""
    model = getattr(recommender.ranker, "model", None)
    takes_instruction = isinstance(model, LanguageModel) and "instruction" in model.encoder.prompt.variables
    has_vectors = recommender.item_vectors is not None
    return Reader(
        recommender.catalog,
        search=search,
        by_rules=NoRules() if wishes == "model" else None,
        asks_model=wishes != "rules",
        has_vectors=has_vectors,
        takes_instruction=takes_instruction,
    )


def explained(
    recommender: Recommends,
    ask: Explain,
    evidence: Evidence,
    language_model: Writer,
    on_wait: Callable[[str], None] | None = None,
) -> str:
    """The text of an explanation, of several lines."""
    has_writer = language_model is not None or not without_language_model(recommender.folder)
    if evidence.suits and has_writer:
        language_model = _writer(recommender, language_model, on_wait)
    return "\n".join(explanation_lines(recommender.explain_evidence(ask.history, evidence, language_model)))


def question_answered(
    recommender: Recommends,
    ask: AnswerQuestion,
    language_model: Writer,
    on_text: Callable[[str], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> str:
    """A language model's own words, and what is to be said about them. on_text: see `Recommender.converse`."""
    model = _writer(recommender, language_model, on_wait)
    line, start = RunningLine(), answer_start(model.card)
    if on_text is not None:
        on_text(ask.said + start)
    found = answer(
        recommender.catalog, ask.question, ask.liked, ask.shown, model,
        on_text=None if on_text is None else lambda piece: on_text(line.add(piece)),
    )  # fmt: skip
    if on_text is None:
        line.add(found.text)
    return "\n".join([start + line.text, *answer_notes(found)])


def read_by_model(
    recommender: Recommends,
    ask: ReadByModel,
    by_model: ModelReaders,
    language_model: Writer,
    on_wait: Callable[[str], None] | None = None,
) -> Wishes:
    """What a language model reads in a message."""
    return by_model.read(ask, _writer(recommender, language_model, on_wait))


def _writer(recommender: Recommends, language_model: Writer, on_wait: Callable[[str], None] | None) -> TextModel:
    if isinstance(language_model, TextModel):
        return language_model

    def on_load() -> None:
        if on_wait is not None:
            on_wait("Loading the language model that explains, answers and reads, once ...")

    return recommender.text_model(language_model, on_load)
