"""Any server that speaks OpenAI's chat completions, as a model that writes: timeouts, retries, bounded answers, several at once."""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from llmrec.errors import ConfigError, ModelError
from llmrec.terminal import printable
from llmrec.text_models.protocol import (
    VALUES,
    Chat,
    Completion,
    FirstToken,
    PlainText,
    ProviderError,
    Request,
    without_marks,
)
from llmrec.text_models.timed_http import timed_opener

ATTEMPTS = 4
# doubled from attempt to attempt; a server's Retry-After counts up to the second
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 60.0
MAX_RESPONSE_BYTES = 4_000_000
MAX_TOKENS_SAID = 100_000_000  # a server that counts more for one answer is not believed
FAILURES_IN_A_ROW = 5  # questions without a usable answer after which the rest are not asked
CHARACTERS_PER_TOKEN, TOKENS_PER_MESSAGE = 4, 8  # for the estimate; the server has the tokenizer
Answer = TypeVar("Answer", Completion, FirstToken)
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_HOPELESS = frozenset({401, 403, 404, 405})
_MARKUP = re.compile(r"(?<=<)(?=[|｜/a-zA-Z])|(?<=\[)(?=/?INST)")


class OpenAIModel:
    """`base_url` is the server's, such as http://localhost:8000/v1; the key comes from an environment variable and is never written.

    A server reads markup wherever it stands, so values are sent with a space inside what could be some ("<|" as "< |").
    `FIRST_WAIT_SECONDS` and what a server asks for in Retry-After stand between attempts; `timeout` seconds hold for a whole answer,
    from the connection to the last byte.
    Raises ConfigError for a URL that is none, or that holds a password.
    """

    local = False
    begins_answers = False
    is_chat = True
    max_tokens = None

    def __init__(
        self,
        model: str,
        base_url: str | None,
        *,
        api_key_variable: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
        concurrency: int = 8,
        first_wait: float = FIRST_WAIT_SECONDS,
    ) -> None:
        parts = _url_parts(base_url or "")
        if parts is None:
            raise ConfigError(
                f"an OpenAI-compatible server is named by its URL, such as http://localhost:8000/v1; it is {base_url!r}."
            )
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                "the URL of the server holds a password or a query, which would be written next to the texts. "
                f"Put the key into the environment variable {api_key_variable}."
            )
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.identity = {"provider": "openai", "name": model, "server": base_url.rstrip("/")}
        self.card = {**self.identity, "chat_template": True}
        self.model, self.timeout, self.batch_size, self.first_wait = model, timeout, concurrency, first_wait
        self._key = os.environ.get(api_key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):  # no header may hold it, and an error would quote it
            raise ConfigError(
                f"the key in the environment variable {api_key_variable} should be one line of ASCII characters, but it holds others. "
                "Set it again."
            )
        self._stop = threading.Event()
        self._opener = timed_opener()

    def count_tokens(self, prompts: Sequence[Chat | PlainText]) -> list[int]:
        """Tokens of each prompt, estimated from its characters. Raises ModelError for a plain text."""
        for prompt in prompts:
            self._check_is_chat(prompt)
        return [
            sum(TOKENS_PER_MESSAGE + len(text) // CHARACTERS_PER_TOKEN for _, text in chat.turns) for chat in prompts
        ]

    def complete(
        self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, Completion | ProviderError]]:
        """The answers as they come, `batch_size` under way at once; a new question is asked once an answer has been taken.

        Where going on makes no sense no further question is asked, those under way come to their end, and the answers among them are
        handed out before the ProviderError is raised. on_text is given a whole answer.
        """
        for place, answer in self._answers(requests, self._ask):
            if on_text is not None and isinstance(answer, Completion):
                on_text(answer.text)
            yield place, answer

    def first_tokens(
        self, requests: Sequence[Request], num_likeliest: int
    ) -> Iterator[tuple[int, FirstToken | ProviderError]]:
        """The answers as in `complete`, with the `num_likeliest` likeliest first tokens of each, where the server tells them.

        A server that does not take this many, or none, refuses: a ProviderError with the status 400 or 422.
        """
        yield from self._answers(requests, lambda request: self._ask(request, num_likeliest))

    def _answers(
        self, requests: Sequence[Request], ask: Callable[[Request], Answer | ProviderError]
    ) -> Iterator[tuple[int, Answer | ProviderError]]:
        """What `ask` says of each request; see `complete`."""
        for request in requests:
            self._check_is_chat(request.chat)
        failures, hopeless = 0, None
        self._stop.clear()
        left = iter(enumerate(requests))
        pool = ThreadPoolExecutor(self.batch_size, thread_name_prefix="text-model")
        try:
            places = {pool.submit(ask, request): place for place, request in islice(left, self.batch_size)}
            while places:
                done, _ = wait(places, return_when=FIRST_COMPLETED)
                for future in done:
                    place = places.pop(future)
                    try:
                        answer = future.result()
                    except _HopelessError as error:
                        hopeless = hopeless or ProviderError(str(error))
                        self._stop.set()
                        continue
                    if hopeless is None or not isinstance(answer, ProviderError):
                        yield place, answer
                    failures = failures + 1 if isinstance(answer, ProviderError) else 0
                    if failures >= FAILURES_IN_A_ROW and hopeless is None:
                        hopeless = ProviderError(
                            f"the server gave no usable answer {failures} times in a row, at last: {answer}"
                        )
                        self._stop.set()
                    if hopeless is None:
                        places |= {pool.submit(ask, request): place for place, request in islice(left, 1)}
            if hopeless is not None:
                raise hopeless
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _check_is_chat(self, prompt: Chat | PlainText) -> None:
        if isinstance(prompt, PlainText):
            raise ModelError(
                f"'{self.model}' is asked through chat completions, which take messages and no plain text. Ask in messages."
            )

    def _ask(self, request: Request, num_likeliest: int = 0) -> Completion | FirstToken | ProviderError:
        """One question, asked up to ATTEMPTS times. Raises _HopelessError for what no other question would mend."""
        body = {
            "model": self.model,
            "messages": [{"role": role, "content": _harmless(marked)} for role, marked in request.chat.turns],
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            **({"logprobs": True, "top_logprobs": num_likeliest} if num_likeliest else {}),
        }
        wait, problem, status = self.first_wait, "it was not asked", None
        for attempt in range(ATTEMPTS):
            if attempt and self._stop.wait(wait):
                break
            wait = min(2 * self.first_wait * 2**attempt, MAX_WAIT_SECONDS)
            try:
                came = self._post(body)
                answer = self._completion(came, request)
                return FirstToken(answer, self._likeliest(came)) if num_likeliest else answer
            except urllib.error.HTTPError as error:
                problem, status = f"status {error.code} {self._said(error)}", error.code
                if error.code in _HOPELESS or 300 <= error.code < 400:
                    raise _HopelessError(f"the server at {self.identity['server']} refuses: {problem}.") from error
                if error.code not in _TRY_AGAIN:
                    break
                wait = max(wait, _retry_after(error))
            except _RubbishError as error:
                problem = str(error)
            except TimeoutError:
                problem = f"no answer within {self.timeout:g} s"
            except (OSError, http.client.HTTPException) as error:
                problem = f"no connection: {self._quoted(str(getattr(error, 'reason', error)) or type(error).__name__)}"
                if isinstance(getattr(error, "reason", None), TimeoutError):
                    problem = f"no answer within {self.timeout:g} s"
        failure = ProviderError(f"the server at {self.identity['server']} gave no usable answer: {problem}.")
        failure.status = status
        return failure

    def _post(self, body: dict) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "llmrec"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        with self._opener.open(request, timeout=self.timeout) as response:
            return _bounded_read(response)

    def _completion(self, body: bytes, request: Request) -> Completion:
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
            usage = value.get("usage") or {}
            counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _RubbishError(f"what came is no chat completion but {self._quoted(body)}") from error
        if not isinstance(text, str | None):
            raise _RubbishError(f"the answer should be a text but is a {type(text).__name__}")
        text = (
            (text or "").encode("utf-8", "replace").decode()
        )  # JSON may spell half a surrogate pair, which no file holds
        estimates = [self.count_tokens([request.chat])[0], len(text) // CHARACTERS_PER_TOKEN]
        counts = [
            n if type(n) is int and 0 <= n <= MAX_TOKENS_SAID else guess
            for n, guess in zip(counts, estimates, strict=True)
        ]
        return Completion(text, "length" if finish == "length" else "stop", *counts)

    def _likeliest(self, body: bytes) -> tuple[tuple[str, float], ...]:
        """The candidates of the first token in a chat completion; none where it tells none."""
        told = json.loads(body)["choices"][0].get("logprobs")
        if not told or not told.get("content"):
            return ()
        try:
            found = [(each["token"], float(each["logprob"])) for each in told["content"][0]["top_logprobs"]]
            if not all(isinstance(token, str) and value <= 0 for token, value in found):
                raise ValueError("log-probabilities are numbers up to 0, of texts")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _RubbishError(f"the log-probabilities that came cannot be read: {self._quoted(body)}") from error
        return tuple(sorted(found, key=lambda each: -each[1]))

    def _said(self, error: urllib.error.HTTPError) -> str:
        """What came with an error, where something did: a server in trouble may break off here, too."""
        try:
            return self._quoted(_bounded_read(error))
        except (_RubbishError, OSError, http.client.HTTPException):
            return "(and no readable reason)"

    def _quoted(self, said: bytes | str) -> str:
        """The beginning of what a server said, fit for a terminal; some repeat the key they were sent."""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        text = text.replace(self._key, "***") if self._key else text
        return repr(printable(text[:2_000])[:150])


class _RubbishError(Exception):
    """A response that is no chat completion."""


class _HopelessError(Exception):
    """A server that will answer no question, such as one that wants another key."""


def _url_parts(url: str) -> urllib.parse.SplitResult | None:
    """The parts of a server's URL; None for what is none."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # such as a bracket without its end
        return None
    is_one = parts.scheme in ("http", "https") and parts.hostname and url.isascii() and " " not in url
    return parts if is_one else None


def _bounded_read(response: http.client.HTTPResponse | urllib.error.HTTPError) -> bytes:
    """At most MAX_RESPONSE_BYTES."""
    parts, size = [], 0
    while part := response.read1(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            raise _RubbishError(f"the response is longer than {MAX_RESPONSE_BYTES:,} bytes")
    return b"".join(parts)


def _retry_after(error: urllib.error.HTTPError) -> float:
    said = error.headers.get("Retry-After", "") if error.headers else ""
    return min(float(said), MAX_WAIT_SECONDS) if said.isascii() and said.isdigit() else 0.0


def _harmless(marked: str) -> str:
    return without_marks(VALUES.sub(lambda value: _MARKUP.sub(" ", value[1]), marked))
