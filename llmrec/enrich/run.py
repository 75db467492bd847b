"""The run: questions, answers kept as they come, a look at each text, another try for those that are no good."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmrec.data.folder import Data
from llmrec.enrich.cache import AnswerCache
from llmrec.enrich.generated_texts import GeneratedTexts
from llmrec.enrich.quality import GOOD, Status, cut_in_thought, judge, said
from llmrec.enrich.questions import enrich_prompt, questions
from llmrec.enrich.settings import EnrichSettings
from llmrec.errors import ModelError
from llmrec.files import content_hash
from llmrec.text_models.protocol import Chat, Completion, ProviderError, Request, TextModel
from llmrec.text_models.reasoning import spoken

MORE_ROOM = 4  # times as many tokens, where they ended within a model's thoughts


@dataclass(frozen=True)
class Estimate:
    """What is left to do before the first question is asked. `seconds` comes from a first batch and is None without one."""

    num_rows: int
    num_different: int
    num_cached: int
    num_calls: int
    prompt_tokens: int
    most_new_tokens: int
    seconds: float | None
    is_exact: bool  # whether prompt_tokens were counted; a server's are guessed


@dataclass
class Tally:
    """What was really done: calls, tokens and seconds of this run, and what was not asked."""

    calls: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    retried: int = 0
    unasked: set[Chat] = field(default_factory=set)  # the budget of tokens did not hold them
    failures: dict[Chat, str] = field(default_factory=dict)  # what the provider said instead of an answer
    cut_in_thought: set[Chat] = field(default_factory=set)  # the model was still thinking when its tokens were used up
    most_new_tokens: int = 0  # that one of them was given then


Progress = Callable[[int, int, Tally], None]  # (answers there, answers wanted, tally) after each answer


class Enrichment:
    """One run over one data folder. `plan()` says what it will cost, `run()` does it."""

    def __init__(
        self,
        data: Data,
        settings: EnrichSettings,
        model: TextModel,
        *,
        cache_path: Path | None = None,
        progress: Progress = lambda done, total, tally: None,
    ) -> None:
        """Raises ConfigError for a prompt that does not fit the task or the catalog, ModelError for a model without a chat template."""
        self.data, self.settings, self.model, self.progress = data, settings, model, progress
        self.prompt = enrich_prompt(settings)
        if not model.is_chat:
            raise ModelError(
                f"'{settings.model}' has no chat template, so it cannot be asked in messages. Choose an instruct model."
            )
        self.cache = AnswerCache(model.identity, self.prompt.hash, cache_path)
        self.chats = questions(data, settings, self.prompt)
        if not model.begins_answers:
            self.chats = {row: replace(chat, answer_start="") for row, chat in self.chats.items()}
        self.different: list[Chat] = list(dict.fromkeys(self.chats.values()))
        self._lengths = dict(zip(self.different, model.count_tokens(self.different), strict=True))
        limit = model.max_tokens
        room = None if limit is None else limit - settings.max_new_tokens
        self.too_long = {chat for chat in self.different if room is not None and self._lengths[chat] > room}
        self.tally = Tally()

    def plan(self, *, probe: bool) -> Estimate:
        """The estimate. probe: a first batch is asked (and kept), and the time of the rest comes from it."""
        requests = [self._request(chat, 0) for chat in self._askable()]
        todo = self._missing(requests)
        cached, seconds = len(requests) - len(todo), 0.0 if not todo else None
        if probe and todo:
            step = max(1, len(todo) // self.model.batch_size)
            self._ask(todo[::step][: self.model.batch_size])
            left = self._missing(todo)
            tokens = self.tally.prompt_tokens + self.tally.new_tokens
            seconds = self.tally.seconds * sum(map(self._cost, left)) / max(tokens, 1)
            todo = left
        return Estimate(
            len(self.chats),
            len(self.different),
            cached,
            len(todo),
            sum(self._lengths[request.chat] for request in todo),
            sum(request.max_new_tokens for request in todo),
            seconds,
            self.model.local,
        )

    def run(self) -> GeneratedTexts:
        """Asks what is not cached, judges, retries and flags.

        Raises ProviderError where going on makes no sense; what was finished is kept, and a second run goes on from there.
        """
        best: dict[Chat, tuple[str, Status]] = {}
        longer: dict[Chat, int] = {}  # how many times a question was given more tokens
        retried: set[Chat] = set()
        requests = [self._request(chat, 0) for chat in self._askable()]
        for attempt in range(self.settings.retries + 1):
            self._ask(self._missing(requests))
            answers = self.cache.get([self.cache.key(request) for request in requests])
            opens_before = any(spoken(completion.text).opened_before for completion in answers.values())
            for request in requests:
                completion = answers.get(self.cache.key(request))
                if completion is None:
                    continue
                text, status = judge(request.chat, completion, opens_before=opens_before)
                if request.chat not in best or status in GOOD:
                    best[request.chat] = text, status
                if cut_in_thought(completion, opens_before=opens_before):
                    longer[request.chat] = longer.get(request.chat, 0) + 1
            self._flag_duplicates(best)
            bad = [chat for chat, (_, status) in best.items() if status not in GOOD]
            if not bad or attempt == self.settings.retries:
                break
            retried |= set(bad)
            requests = [self._request(chat, attempt + 1 - longer.get(chat, 0), longer.get(chat, 0)) for chat in bad]
            given = [request.max_new_tokens for request in requests if request.chat in longer]
            self.tally.most_new_tokens = max(self.tally.most_new_tokens, *given, 0)
        self.tally.retried = len(retried)
        self.tally.cut_in_thought = set(longer)
        # Whoever has a text is no failure, even if a first batch or another try came to nothing.
        self.tally.failures = {chat: why for chat, why in self.tally.failures.items() if chat not in best}
        self.tally.unasked -= set(best)
        return self._knowledge(best)

    def _flag_duplicates(self, best: dict[Chat, tuple[str, Status]]) -> None:
        """Of different items with the same words, the first keeps them."""
        seen: set[str] = set()
        for chat in self.different:
            if chat not in best or best[chat][1] not in GOOD:
                continue
            text, _ = best[chat]
            words = said(text, chat)
            if words in seen:
                best[chat] = text, "duplicate"
            seen.add(words)

    def _knowledge(self, best: dict[Chat, tuple[str, Status]]) -> GeneratedTexts:
        found: dict[int, tuple[str, str]] = {}
        for row, chat in self.chats.items():
            if chat in self.too_long:
                found[row] = "", "too_long"
            elif chat in best:
                found[row] = best[chat]
            elif chat in self.tally.failures:
                found[row] = "", "failed"
        about = self.settings.about
        num_rows = self.data.catalog.num_items if about == "items" else len(self.data.user_ids)
        counts = Counter(status for _, status in found.values())
        card = {
            "about": about,
            "num_rows": num_rows,
            "model": self.model.identity,
            "prompt": f"{self.prompt.task}/{self.prompt.name}",
            "prompt_hash": self.prompt.hash,
            "settings": self.settings.model_dump(
                mode="json", exclude={"batch_size", "timeout", "api_key_variable", "device"}
            ),
            "catalog_hash": self.data.catalog.content_hash,
            "counts": {
                "asked_about": len(found),
                "different_questions": len(self.different),
                "retried": self.tally.retried,
                "statuses": dict(counts.most_common()),
            },
        }
        if about == "users":
            card["content_hash"] = self.data.content_hash()
            card["split"] = {"policy": "leave_one_out", "fit": self.settings.fit}
        return GeneratedTexts.of(num_rows, found, card, keep_flagged=self.settings.keep_flagged)

    def _askable(self) -> list[Chat]:
        return [chat for chat in self.different if chat not in self.too_long]

    def _request(self, chat: Chat, attempt: int, longer: int = 0) -> Request:
        """The question at one attempt: the first as asked, later ones sampled, each with a seed of its own.

        longer: how many times the tokens were used up within the model's thoughts, each of which brings more of them.
        """
        s = self.settings
        room = s.max_new_tokens * MORE_ROOM**longer
        if self.model.max_tokens is not None:
            room = max(s.max_new_tokens, min(room, self.model.max_tokens - self._lengths[chat]))
        temperature, top_p = (s.temperature, s.top_p) if attempt == 0 else (s.retry_temperature, s.retry_top_p)
        digest = content_hash(repr(chat), f"{s.seed} {attempt}")
        seed = 0 if temperature == 0 else int(digest, 16) % 2**31
        return Request(chat, room, temperature, top_p, s.repetition_penalty, seed)

    def _missing(self, requests: Sequence[Request]) -> list[Request]:
        there = self.cache.get([self.cache.key(request) for request in requests])
        return [request for request in requests if self.cache.key(request) not in there]

    def _cost(self, request: Request) -> int:
        return self._lengths[request.chat] + request.max_new_tokens

    def _ask(self, requests: Sequence[Request]) -> None:
        """Asks in groups of like length, each answer kept at once, until the budget of tokens would not hold the next group."""
        requests = sorted(requests, key=lambda request: self._lengths[request.chat])
        start, num_answers = 0, 0
        size = self.model.batch_size * (1 if self.model.local else 4)
        while start < len(requests):
            group = self._affordable(requests[start : start + size])
            if not group:
                self.tally.unasked |= {request.chat for request in requests[start:]}
                return
            began = time.perf_counter()
            try:
                for place, answer in self.model.complete(group):
                    self._keep(group[place], answer)
                    num_answers += 1
                    self.progress(num_answers, len(requests), self.tally)
            except ProviderError as error:
                there = len(self._askable()) - len(self._missing([self._request(chat, 0) for chat in self._askable()]))
                raise ProviderError(
                    f"{error} {there} of {len(self.different)} answers are kept; the same command goes on from there."
                ) from error
            self.tally.seconds += time.perf_counter() - began
            start += len(group)

    def _keep(self, request: Request, answer: Completion | ProviderError) -> None:
        if isinstance(answer, ProviderError):
            self.tally.failures[request.chat] = str(answer)
            return
        self.cache.put({self.cache.key(request): answer})
        self.tally.calls += 1
        self.tally.prompt_tokens += answer.prompt_tokens
        self.tally.new_tokens += answer.new_tokens

    def _affordable(self, group: list[Request]) -> list[Request]:
        if self.settings.max_tokens is None:
            return group
        left = self.settings.max_tokens - self.tally.prompt_tokens - self.tally.new_tokens
        kept = []
        for request in group:
            left -= self._cost(request)
            if left < 0:
                break
            kept.append(request)
        return kept


def enrich(data: Data, settings: EnrichSettings, model: TextModel, *, cache_path: Path | None = None) -> GeneratedTexts:
    """Texts about all items (or users) of `data`, as a recipe needs them: no question back, nothing printed.

    Answers come from the cache where it has them; `.save(DATA/generated_texts/NAME)` writes the texts where
    `load_generated_texts` finds them. Raises ConfigError for a prompt that does not fit, ProviderError where the provider gives up; a
    second call goes on from there.
    """
    return Enrichment(data, settings, model, cache_path=cache_path).run()
