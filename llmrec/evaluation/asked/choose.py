"""Candidates ranked by a language model as it is: it reads a numbered list and answers with a number, or with a title.

Constrained, every candidate has the likelihood of its answer among all possible ones, so that all are ranked and none is invented.
Free, the model writes what it wants, and what it wrote is read and counted.

Letters: U requests, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from llmrec.data.folder import Data
from llmrec.engines.trie import TokenTrie
from llmrec.errors import ConfigError, RequestError
from llmrec.evaluation.asked.answers import NONE, TitleReader, read_number, shares_of, statuses_of
from llmrec.evaluation.asked.local import chat_for, load_untrained, prompt_for, untrained_model
from llmrec.evaluation.asked.questions import Questions
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.items.forms import ItemTokens, text_tokens
from llmrec.prompting.templates import CHOOSE
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Ranking, Requests
from llmrec.text_models.open_model import check_server
from llmrec.text_models.protocol import Completion, Request, TextModel
from llmrec.text_models.reasoning import spoken

AnswerBy = Literal["number", "title"]
_PROMPTS = {
    "number": ("choose/number", "choose/number_plain"),
    "title": ("choose/title", "choose/title_plain"),
}
MOST_CANDIDATES = 100
_NUMBER_TOKENS = 8  # of a number, its dot and the end token
_FREE_TOKENS = 48


class AskedCandidates:
    """A ranker of given candidates, at most MOST_CANDIDATES of them: `evaluate` asks it by a task of the kind candidates.

    The order of the candidates is part of the question (see `position_bias`), so a task should shuffle them.
    """

    name = "llm"

    def __init__(self, model: LanguageModel, by: AnswerBy, card: dict[str, Any]) -> None:
        self.model, self.by, self._card = model, by, card
        self.num_items = model.item_tokens.num_items
        self._tries: dict[int, tuple[ItemTokens, TokenTrie]] = {}

    @property
    def card(self) -> dict[str, Any]:
        """Facts for the report."""
        return {**self.model.card, **self._card, "decoding": f"likelihood of each candidate's {self.by}"}

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """Log-probabilities, int (U, C) or (C,) -> float32 (U, C): of a candidate's number among 1. to C.; of its title under
        the trie of the catalogue. Raises RequestError for more candidates than a prompt lists."""
        candidates = np.asarray(candidates, dtype=np.int64)
        wanted = np.broadcast_to(candidates, (len(requests), candidates.shape[-1]))
        num_candidates = wanted.shape[1]
        if num_candidates > MOST_CANDIDATES:
            raise RequestError(
                f"a prompt lists {MOST_CANDIDATES} candidates at most, but {num_candidates} were given. Take fewer."
            )
        prompts = [
            self.model.encoder.encode(requests.histories[row], candidate=wanted[row]) for row in range(len(requests))
        ]
        tokens, trie = self._answers(num_candidates)
        asked = np.broadcast_to(np.arange(num_candidates), wanted.shape) if self.by == "number" else wanted
        scores, engine = np.empty(wanted.shape, dtype=np.float32), self.model.engine
        for rows in engine.batches(prompts, positions_a_prompt=num_candidates * tokens.max_length):
            some = [prompts[row] for row in rows]
            scores[rows] = engine.score_candidates(trie, tokens, some, asked[rows], softmax_scope="trie").numpy()
        return scores

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """The candidates, best first. Raises RequestError without any: a prompt cannot list a whole catalogue."""
        if candidates is None:
            raise RequestError(
                "this model chooses among candidates that its prompt lists, and none were given. Name candidates, or take a task "
                "of the kind candidates."
            )
        scores = self.score(requests, candidates)
        if exclude_seen:
            for row, given in enumerate(np.broadcast_to(candidates, scores.shape)):
                scores[row, np.isin(given, requests.histories[row])] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, order, axis=1)
        items = np.take_along_axis(np.broadcast_to(candidates, scores.shape), order, axis=1)
        return Ranking(np.where(np.isfinite(best), items, -1).astype(np.int32), best)

    def _answers(self, num_candidates: int) -> tuple[ItemTokens, TokenTrie]:
        """How the possible answers are written, and their trie."""
        key = num_candidates if self.by == "number" else 0
        if key not in self._tries:
            tokens = self.model.item_tokens
            if self.by == "number":
                # as the list spells them: "1" is then told from "10" by a dot, which models write, not by the answer's end
                numbers = [f"{number}." for number in range(1, num_candidates + 1)]
                tokens = text_tokens(
                    numbers, self.model.backbone.tokenizer, self.model.backbone.base_vocab_size, item_ids=numbers,
                    max_tokens=_NUMBER_TOKENS,
                )  # fmt: skip
            self._tries[key] = tokens, TokenTrie.from_item_tokens(tokens, self.model.engine.device)
        return self._tries[key]


def open_asked_candidates(settings: AskedSettings, data: Data, *, by: AnswerBy = "number") -> AskedCandidates:
    """The model that the settings name, for tasks of the kind candidates. Raises ConfigError for another provider than transformers,
    for examples (there are none of this task), and for a prompt of another task."""
    check_server(settings)
    if settings.provider != "transformers":
        raise ConfigError(
            "candidates are ranked by the likelihood of their answers, which needs the model itself, but the provider is "
            f"{settings.provider}. Take provider transformers, or count what the model writes (evaluation.asked.choose.free_choices)."
        )
    if settings.shots:
        raise ConfigError("a choice among candidates is asked without examples, so shots must be 0. Leave --shots out.")
    backbone = load_untrained(settings)
    prompt = prompt_for(settings, CHOOSE, _PROMPTS[by], is_chat=backbone.tokenizer.chat_template is not None)
    card = {"provider": "transformers", "max_title_tokens": settings.max_title_tokens, "shots": 0, "answer": by}
    return AskedCandidates(untrained_model(backbone, data.catalog, prompt, settings), by, card)


def free_choices(
    model: TextModel, settings: AskedSettings, data: Data, requests: Requests, candidates: np.ndarray, *, by: AnswerBy
) -> tuple[np.ndarray, dict[str, Any]]:
    """What a model of any provider writes when it may write anything: the place it chose of each list, int64 (U,), -1 for none; and
    counts of `shares_of` with how many questions were not answered.

    candidates: int (U, C). A number outside of the list and an unknown title are none; a title of the history is repeated.
    Raises ConfigError for a prompt that is no chat, ProviderError where going on makes no sense.
    """
    prompt = chat_for(settings, CHOOSE, _PROMPTS[by])
    questions = Questions(
        prompt, data.catalog, max_history=settings.max_history, max_title_tokens=settings.max_title_tokens
    )
    asked = [
        Request(questions.chat(requests.histories[row], choices=candidates[row].tolist()), _FREE_TOKENS)
        for row in range(len(requests))
    ]
    chosen, statuses, unanswered = np.full(len(requests), -1, np.int64), [NONE] * len(requests), 0
    for row, answer in model.complete(asked):
        if not isinstance(answer, Completion):
            unanswered += 1
            continue
        text, listed, seen = (
            spoken(answer.text).text.strip(),
            candidates[row].tolist(),
            requests.histories[row].tolist(),
        )
        if by == "number":
            place = read_number(text, len(listed))
        else:
            known = [*listed, *seen]
            place = TitleReader([questions.title(item) for item in known]).item(text.partition("\n")[0])
        item = None if place is None else [*listed, *seen][place]
        statuses[row] = statuses_of([item], seen=seen)[0]
        chosen[row] = -1 if item not in listed else listed.index(item)
    return chosen, {**shares_of(statuses), "unanswered": unanswered}


def best_places(ranker: AskedCandidates) -> Callable[[Requests, np.ndarray], np.ndarray]:
    """What `position_bias` asks: the place of the best candidate in each list."""
    return lambda requests, candidates: ranker.score(requests, candidates).argmax(axis=1)


def position_bias(
    choose: Callable[[Requests, np.ndarray], np.ndarray],
    requests: Requests,
    candidates: np.ndarray,
    targets: np.ndarray,
    *,
    orders: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """The same lists in several orders of chance: what does the place of a candidate decide?

    choose: requests and candidates int (U, C) -> the chosen places, int (U,), -1 for none. candidates hold the target of each row once.
    Returns JSON values: `first_choice_by_position`, C shares of all answers (alike where the place decides nothing); `no_choice`, the
    share without one; `changed`, how often another order of the same list brings another item than the first order did;
    `accuracy` and `accuracy_by_target_position`, C shares (None for a place where no target stood); `chance`, 1 / C.
    """
    assert orders >= 2, "one order shows no change"
    num_requests, num_candidates = candidates.shape
    rng = np.random.default_rng(seed)
    places = np.zeros(num_candidates, np.int64)  # how often each was chosen
    right, stood = np.zeros(num_candidates, np.int64), np.zeros(num_candidates, np.int64)
    first, changed, none = None, 0, 0
    for _ in range(orders):
        shuffled = rng.permuted(candidates, axis=1)
        chosen = np.asarray(choose(requests, shuffled), dtype=np.int64)
        has_choice = chosen >= 0
        items = np.where(has_choice, np.take_along_axis(shuffled, np.maximum(chosen, 0)[:, None], axis=1)[:, 0], -1)
        at = np.argmax(shuffled == targets[:, None], axis=1)
        places += np.bincount(chosen[has_choice], minlength=num_candidates)
        stood += np.bincount(at, minlength=num_candidates)
        right += np.bincount(at[items == targets], minlength=num_candidates)
        none += int((~has_choice).sum())
        changed += 0 if first is None else int((items != first).sum())
        first = items if first is None else first
    answers = orders * num_requests
    return {
        "instances": num_requests,
        "num_candidates": num_candidates,
        "orders": orders,
        "seed": seed,
        "first_choice_by_position": (places / answers).tolist(),
        "no_choice": none / answers,
        "changed": changed / (answers - num_requests),
        "accuracy": float(right.sum() / answers),
        "accuracy_by_target_position": [
            float(hits / n) if n else None for hits, n in zip(right.tolist(), stood.tolist(), strict=True)
        ],
        "chance": 1 / num_candidates,
    }
