"""Errors as clients see them: one JSON shape with a sentence, in the form OpenAI's clients read.

{"error": {"message": "...", "type": "...", "code": "..."}}, the latter two the same word; of unclear titles also "nearest".
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from llmrec.errors import ArtifactError, ConfigError, DataError, LlmrecError, RequestError
from llmrec.serving.errors import BusyError, NotReadyError
from llmrec.serving.item_names import UnknownItemError
from llmrec.terminal import printable
from llmrec.text_models.protocol import ProviderError

_STATUS: dict[type[LlmrecError], tuple[int, str]] = {  # the first that fits
    BusyError: (429, "too_many_requests"),
    NotReadyError: (503, "not_ready"),
    RequestError: (422, "invalid_request"),
    DataError: (422, "invalid_items"),
    ConfigError: (422, "invalid_request"),
    ArtifactError: (422, "invalid_run"),
    ProviderError: (502, "language_model"),
    LlmrecError: (503, "model"),  # models are the operator's choice, so what is wrong with one is no client's mistake
}
_OF_STATUS = {400: "invalid_json", 404: "no_such_route", 405: "no_such_method", 415: "invalid_json"}
_MAX_VALUE = 60  # characters of what came, in a sentence


def error_response(
    status: int, kind: str, message: str, *, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An error in the one shape. message: a sentence."""
    body = {"error": {"message": _valid(message), "type": kind, "code": kind, **more}}
    return JSONResponse(body, status, headers)


def response_of(error: LlmrecError) -> JSONResponse:
    """What a client is told of an error of ours."""
    status, kind = next(found for kind, found in _STATUS.items() if isinstance(error, kind))
    if isinstance(error, BusyError):
        return error_response(status, kind, str(error), headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, UnknownItemError):
        nearest = [{"name": _valid(name), "items": items} for name, items in error.nearest.items()]
        return error_response(status, "unknown_item", str(error), nearest=nearest)
    headers = {"Retry-After": "2"} if status == 503 else None
    return error_response(status, kind, str(error), headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Every error of a route in the one shape. What nobody foresaw is logged by uvicorn."""

    @app.exception_handler(LlmrecError)
    async def of_ours(request: Request, error: LlmrecError) -> JSONResponse:
        return response_of(error)

    @app.exception_handler(RequestValidationError)
    async def of_a_body(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            reason = first.get("ctx", {}).get("error", "it is cut off")
            return error_response(400, "invalid_json", f"the body should be JSON, but it is not: {reason}.")
        return error_response(422, "invalid_request", _sentence(first))

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {
            400: "the body should be JSON, in UTF-8, but it cannot be read as such.",
            404: f"there is no route '{_short(request.url.path)}'. /docs lists all.",
            405: f"{_short(request.method)} is not possible at '{_short(request.url.path)}'. /docs lists all routes.",
        }
        message = sentences.get(error.status_code, f"{error.detail}.")
        return error_response(
            error.status_code, _OF_STATUS.get(error.status_code, "invalid_request"), message, headers=error.headers
        )

    @app.exception_handler(Exception)
    async def of_nobody(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, "server", "the server made a mistake; its log says more. Other requests go on.")


def _sentence(problem: dict[str, Any]) -> str:
    """A pydantic error in words: where, what was expected, what came."""
    parts = [str(part) for part in problem["loc"][1:]]
    place = ".".join(part for part in parts if part != "str" and "[" not in part)[
        :200
    ]  # not which of a union's types was tried
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "missing":
        return f"'{_short(place)}' is missing in the request." if place else "the request needs a body, a JSON object."
    if problem["type"] == "extra_forbidden":
        return f"a request of this route has no '{_short(place)}'. /docs lists what it may have."
    came = problem.get("input")
    if not place and problem["type"] == "value_error":
        return f"the body does not fit: {expected}."
    if not place:
        return "the body should be a JSON object, sent with the header 'Content-Type: application/json'."
    expected = expected if expected.startswith("should") else f"does not fit: {expected}"
    return f"'{_short(place)}' {expected}, but it is {_short(repr(came)[: 4 * _MAX_VALUE])}."


def _short(text: str) -> str:
    text = printable(text[: 4 * _MAX_VALUE])
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."


def _valid(text: str) -> str:
    """The text as UTF-8 can have it: a lone surrogate of a request's comes back as a question mark."""
    return text.encode("utf-8", "replace").decode()
