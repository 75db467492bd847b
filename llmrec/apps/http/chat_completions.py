"""POST /v1/chat/completions: the conversation of `llmrec chat` in OpenAI's schema. The server keeps nothing of it.

Whatever messages, titles or system messages say, they are read for titles and wishes (`llmrec.conversation`), and the run ranks:
recommendations are items of the catalogue. What a language model writes is marked as its own words.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse

from llmrec.apps.explanation_output import model_label, show_explanation
from llmrec.apps.http.chat_schemas import ChatBody, Completion
from llmrec.apps.http.errors import error_response
from llmrec.apps.http.routes import ERRORS, finite
from llmrec.apps.http.service import Served, Service
from llmrec.artifacts.item_sources import language_model_of
from llmrec.conversation.messages import TITLES, AnswerQuestion, Explain, Leave, MessageReader, Recommend, Say, Step
from llmrec.conversation.replay import Turn, state_after
from llmrec.conversation.state import ChatState
from llmrec.errors import ModelError, RequestError
from llmrec.explain.words import answer
from llmrec.recommenders.rules import ItemRules
from llmrec.serving.requests import EvidenceRequest, ListRequest
from llmrec.serving.served_model import ServedModel
from llmrec.terminal import printable

TOLD_OF = 10  # of the titles liked and of those shown, the latest that a question's answer is given the facts of
router = APIRouter(prefix="/v1", responses=ERRORS)


class Listener:
    """Reads messages for one model. All its methods are called by the thread that looks titles up."""

    def __init__(self, model: ServedModel) -> None:
        catalog = model.recommender.catalog
        self.reader = MessageReader(catalog, ItemRules(catalog), model.names.search)
        # a copy: a tokenizer is no matter for two threads
        self._tokenizer = copy.deepcopy(language_model_of(model.recommender.ranker).encoder.tokenizer)

    def num_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)


_listeners: WeakKeyDictionary[ServedModel, Listener] = WeakKeyDictionary()


@router.post("/chat/completions", summary="A conversation, in OpenAI's schema")
async def chat_completions(body: ChatBody, service: Served) -> Response:
    """Titles that were liked in, titles of the catalogue out; "more", "why 2", "not 3", "help" and what else `llmrec chat` understands.

    Beside the text, `recommendations` has ids, titles and scores. Statuses and errors are those of the other routes.
    """
    turns = _turns(service, body)
    with service.holder.in_use() as model:
        name = service.holder.name
        if body.model != name:
            return error_response(
                404, "model_not_found", f"this server has one model, '{printable(name)}'. Name that one."
            )
        completion = await Conversation(service, model, turns).completion(name)
    if not body.stream:
        return JSONResponse(completion.whole())
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(completion.events(include_usage), media_type="text/event-stream")


class Conversation:
    """One request: the state is read from the messages, the last of which is answered."""

    def __init__(self, service: Service, model: ServedModel, turns: list[Turn]) -> None:
        self.service, self.model, self.turns = service, model, turns
        self.texts: list[str] = []
        self.recommendations: list[dict[str, Any]] = []

    async def completion(self, name: str) -> Completion:
        """The answer. Raises what the model in service raises."""
        listener, state, prompt_tokens = await self._in_thread(self._heard)
        self.reader: MessageReader = listener.reader
        steps = self.reader.read(self.turns[-1].text, state)
        while (step := await self._in_thread(self._next, steps)) is not None:
            try:
                await self._take(step, state)
            except (RequestError, ModelError) as error:  # of this step; the conversation goes on
                self.texts.append(printable(str(error)))
        if not self.texts:
            number = self.model.recommender.catalog.num_items
            self.texts.append(f"{number:,} titles. Which did you like? (help says more)")
        text = "\n".join(self.texts)
        completion_tokens = await self._in_thread(listener.num_tokens, text)
        return Completion(name, text, self.recommendations, prompt_tokens, completion_tokens)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await self.service.titles.run(function, *arguments)

    def _heard(self) -> tuple[Listener, ChatState, int]:
        if self.model not in _listeners:
            _listeners[self.model] = Listener(self.model)
        listener = _listeners[self.model]
        prompt_tokens = listener.num_tokens("\n".join(turn.text for turn in self.turns))
        return listener, state_after(listener.reader, self.turns[:-1]), prompt_tokens

    def _next(self, steps: Iterator[Step]) -> Step | None:
        """The next step that is more than a text; texts are taken."""
        for step in steps:
            if not isinstance(step, Say):
                return step
            self.texts.append(step.text)
        return None

    async def _take(self, step: Step, state: ChatState) -> None:
        catalog = self.model.recommender.catalog
        liked = [catalog.item_id(item) for item in state.liked]
        match step:
            case Recommend():
                left = await self._in_thread(self.reader.left, state)
                request = None if left is None else ListRequest(tuple(liked), TITLES, filter=left)
                found = [] if request is None else await self.model.ask(request)
                self.texts.append(await self._in_thread(self._listed, state, [item.item_id for item in found]))
                self.recommendations += [
                    {"item_id": item.item_id, "title": item.title, "score": finite(item.score)} for item in found
                ]
            case Explain(item_id):
                evidence = await self.model.ask(EvidenceRequest(tuple(liked), item_id))
                explained = self.model.recommender.explain_evidence
                found = await self.service.writing.run(explained, liked, evidence, self.service.language_model)
                show_explanation(found, self.texts.append)
            case AnswerQuestion(question):
                self.texts += await self.service.writing.run(
                    self._answered, question, liked[-TOLD_OF:], state.shown[-TOLD_OF:]
                )
            case Leave():
                self.texts.append("Goodbye.")

    def _listed(self, state: ChatState, item_ids: list[str]) -> str:
        return self.reader.list_shown(state, item_ids, with_ids=True)

    def _answered(self, question: str, liked: list[str], shown: list[str]) -> list[str]:
        """A language model's own words, and what is to be said about them; by the thread of the one that writes."""
        recommender = self.model.recommender
        writer = recommender.text_model(self.service.language_model)
        found = answer(recommender.catalog, question, liked, shown, writer)
        words = " ".join(printable(found.text).split())
        texts = [f"{model_label(found.language_model)} says, in its own words: {words}"]
        if found.hallucinated_titles:
            names = ", ".join(f"'{printable(name)}'" for name in found.hallucinated_titles)
            texts.append(f"(It names {names}, which it was not told of: that is no recommendation.)")
        return texts


def _turns(service: Service, body: ChatBody) -> list[Turn]:
    """The messages of user and assistant. Raises RequestError for too many, or where the last is not the user's."""
    turns = [
        Turn(message.role, (message.content or "").encode("utf-8", "replace").decode())  # lone surrogates are no text
        for message in body.messages
        if message.role in ("user", "assistant")
    ]
    if not turns or turns[-1].role != "user":
        raise RequestError("the last message should be the user's. System messages change nothing.")
    most = service.settings.limits.max_titles
    number = sum(turn.text.count(";") + 1 for turn in turns if turn.role == "user")
    if number > most:
        raise RequestError(
            f"a conversation may have {most} titles and wishes, but this one has {number:,}. Begin another."
        )
    return turns
