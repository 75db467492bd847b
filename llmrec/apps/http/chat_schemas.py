"""OpenAI's chat completions: what a client sends, and the objects and events that answer it.

Requests may carry what OpenAI's have. Settings of sampling change nothing, because nothing is sampled; what would need another kind of
answer (tools, several choices, other formats) is refused.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator

from llmrec.apps.http.schemas import Body, Texts
from llmrec.conversation.session import Reply

_WITHOUT_EFFECT = "Without effect: nothing is sampled, and answers are as long as they are."


def _joined(content: Any) -> Any:
    """A message's text, of its parts where it comes in parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
        raise ValueError('it should be a text, or a list of {"type": "text", "text": ...} alone: only texts are read')
    return "".join(texts)


class Message(BaseModel):
    """One message. Further keys (name, refusal, tool_calls, ...) are passed over."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str | None, BeforeValidator(_joined)] = None


class StreamOptions(BaseModel):
    """include_usage: whether a last event brings the counts of tokens."""

    include_usage: bool = False


class ChatBody(Body):
    """A conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "NAME", "messages": [{"role": "user", "content": "Star Wars; Fargo"}]},
                {
                    "model": "NAME",
                    "messages": [
                        {"role": "user", "content": "Star Wars; Fargo"},
                        {"role": "assistant", "content": "..."},
                        {"role": "user", "content": "more"},
                    ],
                    "stream": True,
                },
            ]
        }
    )

    model: str = Field(description="The name that /v1/models lists.")
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)] = Field(
        description="All of the conversation, oldest first, the user's last. The server keeps nothing. System messages change nothing."
    )
    stream: bool | None = Field(None, description="Whether the answer comes in server-sent events.")
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = Field(None, description="Answers; there is one.")
    temperature: float | None = Field(None, description=_WITHOUT_EFFECT)
    top_p: float | None = Field(None, description=_WITHOUT_EFFECT)
    seed: int | None = Field(None, description=_WITHOUT_EFFECT)
    max_tokens: int | None = Field(None, description=_WITHOUT_EFFECT)
    max_completion_tokens: int | None = Field(None, description=_WITHOUT_EFFECT)
    stop: str | Texts | None = Field(None, description=_WITHOUT_EFFECT)
    presence_penalty: float | None = Field(None, description=_WITHOUT_EFFECT)
    frequency_penalty: float | None = Field(None, description=_WITHOUT_EFFECT)
    logit_bias: dict[str, JsonValue] | None = Field(None, description=_WITHOUT_EFFECT)
    reasoning_effort: str | None = Field(None, description=_WITHOUT_EFFECT)
    verbosity: str | None = Field(None, description=_WITHOUT_EFFECT)
    user: str | None = Field(None, description="Without effect, as are the names of accounts and caches below.")
    metadata: dict[str, JsonValue] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    logprobs: Literal[False] | None = Field(None, description="Answers have none; `recommendations` have scores.")
    response_format: dict[str, JsonValue] | None = Field(None, description='{"type": "text"} alone.')

    @field_validator("response_format")
    @classmethod
    def _is_text(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if value is not None and value != {"type": "text"}:
            raise ValueError('it should be {"type": "text"}: answers are texts, and `recommendations` are beside them')
        return value


@dataclass
class Completion:
    """An answer. prompt_tokens, completion_tokens: of the messages and the text, as the run's own tokenizer reads them."""

    model: str
    reply: Reply
    recommendations: list[dict[str, Any]]
    prompt_tokens: int
    completion_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """Counts of tokens."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def whole(self) -> dict[str, Any]:
        """As one object."""
        message = {"role": "assistant", "content": self.reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage, **self._beside()}

    def events(self, include_usage: bool) -> Iterator[str]:
        """As server-sent events, the text line by line; what stands beside it comes with the event that ends the text."""
        head = self._head("chat.completion.chunk")

        def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event({**head, "choices": [choice], **more})

        yield event({"role": "assistant", "content": ""})
        for line in self.reply.text.splitlines(keepends=True):
            yield event({"content": line})
        yield event({}, "stop", **self._beside())
        if include_usage:
            yield _event({**head, "choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"

    def _beside(self) -> dict[str, Any]:
        """What OpenAI's answers do not have."""
        return {
            "recommendations": self.recommendations,
            "understood": self.reply.understood,
            "state": self.reply.state.as_json(),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=True, allow_nan=False)}\n\n"
