"""What a server is asked, as item ids, and how requests are answered together: each receives what it would alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.errors import LlmrecError
from llmrec.explain.evidence import Evidence, measure
from llmrec.explain.reasons import Reason, reasons
from llmrec.recommender import Recommendation, Recommender
from llmrec.recommenders.diversity import MMR, SSD
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.steering import Steering, steered_items

EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class ListRequest:
    """A list of k items for one user; see `Recommender.recommend`. history: item ids, oldest first."""

    history: tuple[str, ...]
    k: int = 10
    exclude_seen: bool = True
    filter: Filter = EVERYTHING
    diversity: MMR | SSD | None = None
    instruction: str | None = None
    steering: Steering | None = None

    @property
    def sharing(self) -> Hashable:
        """Lists of one length and one kind come out of one call; filters, steering and instructions may differ."""
        return "list", self.k, self.exclude_seen, self.diversity, self.instruction is None

    def check(self, recommender: Recommender) -> None:
        """Raises RequestError for what is wrong with this request alone."""
        recommender.catalog.index(self.history)
        recommender.rules.choice(**vars(self.filter))
        steered_items(recommender.rules, [self.steering], 1)

    @staticmethod
    def together(recommender: Recommender, requests: Sequence[ListRequest]) -> list[list[Recommendation]]:
        """The list of each; all have one `sharing`."""
        first = requests[0]
        return recommender.recommend_batch(
            [request.history for request in requests],
            first.k,
            exclude_seen=first.exclude_seen,
            filters=[request.filter for request in requests],
            diversity=first.diversity,
            steering=[request.steering for request in requests],
            instructions=_instructions(requests),
        )


@dataclass(frozen=True, eq=False)
class ScoreRequest:
    """Scores of given items for one user; see `Recommender.score`. history, candidates: item ids."""

    history: tuple[str, ...]
    candidates: tuple[str, ...]
    instruction: str | None = None

    @property
    def sharing(self) -> Hashable:
        """Any scores come out of one call."""
        return "scores", self.instruction is None

    def check(self, recommender: Recommender) -> None:
        """Raises RequestError for what is wrong with this request alone."""
        recommender.catalog.index(self.history)
        recommender.catalog.index(self.candidates)

    @staticmethod
    def together(recommender: Recommender, requests: Sequence[ScoreRequest]) -> list[list[float]]:
        """The scores of each; all have one `sharing`."""
        histories = [request.history for request in requests]
        candidates = [request.candidates for request in requests]
        return recommender.score_batch(histories, candidates, instructions=_instructions(requests))


@dataclass(frozen=True, eq=False)
class EvidenceRequest:
    """What a recommendation hangs on; see `explain.evidence.measure`: dozens of histories, a call of its own."""

    history: tuple[str, ...]
    item_id: str
    instruction: str | None = None

    @property
    def sharing(self) -> Hashable:
        """Alone."""
        return id(self)

    def check(self, recommender: Recommender) -> None:
        """`measure` checks everything itself."""

    @staticmethod
    def together(recommender: Recommender, requests: Sequence[EvidenceRequest]) -> list[Evidence]:
        """The evidence of one."""
        (asked,) = requests
        return [measure(recommender, asked.history, asked.item_id, instruction=asked.instruction)]


@dataclass(frozen=True, eq=False)
class ReasonsRequest:
    """A reason for each title of a list; see `explain.reasons.reasons`: up to two dozen histories, a call of its own."""

    history: tuple[str, ...]
    item_ids: tuple[str, ...]
    steering: Steering | None = None
    instruction: str | None = None

    @property
    def sharing(self) -> Hashable:
        """Alone."""
        return id(self)

    def check(self, recommender: Recommender) -> None:
        """`reasons` checks everything itself."""

    @staticmethod
    def together(recommender: Recommender, requests: Sequence[ReasonsRequest]) -> list[list[Reason]]:
        """The reasons of one list."""
        (asked,) = requests
        found = reasons(
            recommender, asked.history, asked.item_ids, steering=asked.steering, instruction=asked.instruction
        )
        return [found]


ServedRequest = ListRequest | ScoreRequest | EvidenceRequest | ReasonsRequest


def answers(recommender: Recommender, requests: Sequence[ServedRequest]) -> list[Any]:
    """For each request its answer, or the LlmrecError that it alone would get. All have one `sharing`."""
    found: list[Any] = [_mistake(recommender, request) for request in requests]
    good = [row for row, mistake in enumerate(found) if mistake is None]
    if not good:
        return found
    together = type(requests[0]).together
    try:
        for row, answer in zip(good, together(recommender, [requests[row] for row in good]), strict=True):
            found[row] = answer
    except LlmrecError as error:  # of one request, which says itself what is wrong with it
        for row in good:
            found[row] = error if len(good) == 1 else answers(recommender, [requests[row]])[0]
    return found


def _mistake(recommender: Recommender, request: ServedRequest) -> LlmrecError | None:
    try:
        request.check(recommender)
    except LlmrecError as error:
        return error
    return None


def _instructions(requests: Sequence[ListRequest] | Sequence[ScoreRequest]) -> list[str] | None:
    given = [request.instruction for request in requests]
    return None if given[0] is None else given
