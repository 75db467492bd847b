"""Clicks by a model behind an OpenAI-compatible server: by the log-probabilities of its first token, or by what it answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.evaluation.asked.local import chat_for
from llmrec.evaluation.asked.questions import Questions
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.asked.shots import click_question_card, click_shots, shot_rows
from llmrec.evaluation.names import BY_ANSWERS
from llmrec.prompting.templates import CLICK
from llmrec.text_models.openai import OpenAIModel
from llmrec.text_models.protocol import Completion, FirstToken, ProviderError, Request
from llmrec.text_models.reasoning import spoken

PROMPTS = ("click/recbench", "click/recbench_plain")
BY_WORDS = "probability of the two answer words"
_LIKELIEST = (20, 5, 0)  # first tokens asked for: OpenAI's and vLLM's most, fewer, none
_ANSWER_TOKENS = 16  # of an answer that is read
_NEITHER = 0.5


class ServerClicks:
    """P(yes) of each row.

    The first question finds out whether the server tells the likeliest first tokens. Then P(yes) is the share of yes in the
    probability of both words, each spelled in any case and with or without a space before it; a word that is not among the likeliest
    counts with the probability of the least of them. Else the answer counts: 1 yes, 0 no, 0.5 neither.
    A question that gets no answer is 0.5, too. The card counts these rows.
    """

    name = "llm"

    def __init__(self, settings: AskedSettings, data: Data, split: ClickSplit, model: OpenAIModel) -> None:
        """Asks nobody. Raises ConfigError for a prompt that is no chat about clicks."""
        prompt = chat_for(settings, CLICK, PROMPTS)
        examples = shot_rows(split, settings.shots, settings.seed)
        self._questions = Questions(
            prompt, data.catalog, max_history=settings.max_history, max_title_tokens=settings.max_title_tokens,
            shots=click_shots(examples, prompt),
        )  # fmt: skip
        self._words = tuple(word.strip().casefold() for word in prompt.answers)
        self.model = model
        self._num_likeliest: int | None = None  # None: not known yet
        self._counts = {"rows": 0, "neither": 0, "unanswered": 0}
        self._card = {
            "provider": "openai",
            "backbone": model.identity,
            **click_question_card(settings, prompt, examples, data.catalog),
        }

    @property
    def card(self) -> dict[str, Any]:
        """Model, prompt, and how the numbers came about; once rows were asked, how many of them had no answer that counts."""
        if self._num_likeliest is None:
            return self._card
        how = BY_WORDS if self._num_likeliest else BY_ANSWERS
        counted = {"asked": dict(self._counts)} if self._counts["rows"] else {}
        return {**self._card, "scored_by": how, "likeliest_tokens": self._num_likeliest, **counted}

    def find_out(self, rows: ClickExamples) -> None:
        """Asks the first row alone, for what the server tells. Raises ProviderError where it does not answer."""
        if self._num_likeliest is not None or not len(rows):
            return
        for number in _LIKELIEST:
            ((_, answer),) = self._ask([self._request(rows, 0, number)], number)
            if isinstance(answer, ProviderError) and not (number and answer.status in (400, 422)):
                raise answer
            if number == 0 or (isinstance(answer, FirstToken) and answer.likeliest):
                self._num_likeliest = number
                return

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float32 (N,).

        Raises ProviderError where going on makes no sense: a key that is refused, or five questions in a row without an answer.
        """
        self.find_out(rows)
        number, liked = self._num_likeliest, np.full(len(rows), _NEITHER, np.float32)
        requests = [self._request(rows, row, number) for row in range(len(rows))]
        counts = dict.fromkeys(self._counts, 0)
        for place, answer in self._ask(requests, number or 0) if requests else ():
            counts["rows"] += 1
            if isinstance(answer, ProviderError):
                counts["unanswered"] += 1
                continue
            found = self._of_tokens(answer) if isinstance(answer, FirstToken) else self._of_text(answer)
            counts["neither"] += found is None
            liked[place] = _NEITHER if found is None else found
        for name, value in counts.items():
            self._counts[name] += value
        return liked

    def _request(self, rows: ClickExamples, row: int, num_likeliest: int) -> Request:
        history = rows.histories[row][rows.histories[row] != PADDING]
        chat = self._questions.chat(history, candidate=int(rows.items[row]))
        return Request(chat, 1 if num_likeliest else _ANSWER_TOKENS)

    def _ask(self, requests: list[Request], num_likeliest: int):
        return self.model.first_tokens(requests, num_likeliest) if num_likeliest else self.model.complete(requests)

    def _of_tokens(self, answer: FirstToken) -> float | None:
        """The share of yes; None where neither word is among the likeliest tokens."""
        if not answer.likeliest:
            return self._of_text(answer.completion)
        masses = [
            sum(np.exp(value) for token, value in answer.likeliest if token.strip().casefold() == word)
            for word in self._words
        ]
        if not any(masses):
            return None
        least = np.exp(answer.likeliest[-1][1])
        yes, no = (mass or least for mass in masses)
        return float(yes / (yes + no))

    def _of_text(self, answer: Completion) -> float | None:
        """1 or 0 by the first word that the model says; None for another word."""
        said = spoken(answer.text).text.split()
        word = said[0].strip(".,:;!?*\"'`()[]").casefold() if said else ""
        return dict(zip(self._words, (1.0, 0.0), strict=True)).get(word)
