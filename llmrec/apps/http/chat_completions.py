"""POST /v1/chat/completions: the conversation of `llmrec chat` in OpenAI's schema. The server keeps nothing of it.

Whatever messages, titles or system messages say, they are read for titles and wishes (`llmrec.conversation`), and the run ranks:
recommendations are items of the catalogue. What a language model writes is marked as its own words.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse

from llmrec.apps.http.chat_schemas import ChatBody, Completion
from llmrec.apps.http.errors import error_response
from llmrec.apps.http.routes import ERRORS, finite
from llmrec.apps.http.service import Served, Service
from llmrec.conversation.asks import AnswerQuestion, Ask, Explain, Rank, ReadByModel, Reasons
from llmrec.conversation.model_readers import ModelReaders
from llmrec.conversation.replay import replayed
from llmrec.conversation.session import Reply, Turn
from llmrec.conversation.turn import turn
from llmrec.conversing import explained, question_answered, read_by_model, reader_of
from llmrec.errors import LlmrecError, ModelError, RequestError
from llmrec.serving.requests import EvidenceRequest, ListRequest, ReasonsRequest
from llmrec.serving.served_model import ServedModel
from llmrec.terminal import printable

router = APIRouter(prefix="/v1", responses=ERRORS)


class Listener:
    """Reads messages for one model. All its methods are called by the thread that looks titles up."""

    def __init__(self, model: ServedModel) -> None:
        self.reader = reader_of(model.recommender, model.names.search, model.recommender.wishes)
        self.by_model = ModelReaders(model.recommender.wishes, self.reader)  # asked by the thread that writes
        ranks = model.recommender.language_model
        # a copy: a tokenizer is no matter for two threads
        self._tokenizer = None if ranks is None else copy.deepcopy(ranks.encoder.tokenizer)

    def num_tokens(self, text: str) -> int:
        """Tokens of a text; words, where no language model ranks."""
        if self._tokenizer is None:
            return len(text.split())
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
    """One request: the session is read from the messages, the last of which is answered."""

    def __init__(self, service: Service, model: ServedModel, turns: list[Turn]) -> None:
        self.service, self.model, self.turns = service, model, turns

    async def completion(self, name: str) -> Completion:
        """The answer. Raises what the model in service raises."""
        listener = await self._in_thread(self._listener)
        session = await self._driven(replayed(listener.reader, self.turns[:-1]))
        reply: Reply = await self._driven(turn(listener.reader, session, self.turns[-1].text))
        texts = "\n".join(said.text for said in self.turns)
        prompt_tokens = await self._in_thread(listener.num_tokens, texts)
        completion_tokens = await self._in_thread(listener.num_tokens, reply.text)
        return Completion(name, reply, self._recommendations(reply), prompt_tokens, completion_tokens)

    async def _driven(self, steps: Generator[Ask, Any, Any]) -> Any:
        """What a generator of asks returns, each of them answered."""
        given: Any = None
        while True:
            ended, found = await self._in_thread(_next, steps, given)
            if ended:
                return found
            try:
                given = await self._answered(found)
            except (RequestError, ModelError) as error:  # of this ask; the reply says it
                given = error

    async def _answered(self, ask: Ask) -> Any:
        recommender, writing = self.model.recommender, self.service.writing
        match ask:
            case Rank():
                request = ListRequest(
                    ask.history, ask.k, filter=ask.filter, instruction=ask.instruction, steering=ask.steering
                )
                return await self.model.ask(request)
            case Reasons():
                asked = ReasonsRequest(ask.history, ask.item_ids, ask.steering, ask.instruction)
                return [reason.text for reason in await self.model.ask(asked)]
            case Explain():
                evidence = await self.model.ask(EvidenceRequest(ask.history, ask.item_id, ask.instruction))
                return await writing.run(explained, recommender, ask, evidence, self.service.language_model)
            case AnswerQuestion():
                return await writing.run(question_answered, recommender, ask, self.service.language_model)
            case ReadByModel():
                by_model = (await self._in_thread(self._listener)).by_model
                return await writing.run(read_by_model, recommender, ask, by_model, self.service.language_model)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await self.service.titles.run(function, *arguments)

    def _listener(self) -> Listener:
        if self.model not in _listeners:
            _listeners[self.model] = Listener(self.model)
        return _listeners[self.model]

    def _recommendations(self, reply: Reply) -> list[dict[str, Any]]:
        catalog = self.model.recommender.catalog
        items = catalog.index([one.item_id for one in reply.listed]).tolist()
        return [
            {
                "item_id": one.item_id,
                "title": catalog.title(item) or one.item_id,
                "score": finite(one.score),
                "reason": one.reason,
            }
            for one, item in zip(reply.listed, items, strict=True)
        ]


def _next(steps: Generator[Ask, Any, Any], given: Any) -> tuple[bool, Any]:
    """Whether the generator has ended, and what it returns or asks next. given: the answer to what it asked last."""
    try:
        return False, steps.throw(given) if isinstance(given, LlmrecError) else steps.send(given)
    except StopIteration as end:
        return True, end.value


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
