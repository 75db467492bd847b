"""What a turn of a conversation asks of others, who rank, measure and write: `turn` yields these and is sent the answers."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.conversation.edits import Wishes
from llmrec.conversation.state import ChatState
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.steering import Steering


@dataclass(frozen=True)
class Rank:
    """The best k items for a history (item ids, oldest first; none for a new user). Answered with `Ranked`s, best first."""

    history: tuple[str, ...]
    k: int
    filter: Filter
    steering: Steering | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Ranked:
    """One item of a ranking; `Recommendation` is one, too."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Reasons:
    """Why each title of a list (item_ids, best first) was listed. Answered with a sentence for each, from what was measured."""

    history: tuple[str, ...]
    item_ids: tuple[str, ...]
    steering: Steering | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Explain:
    """Why an item was recommended for a history, measured and in words. Answered with a text, of several lines."""

    history: tuple[str, ...]
    item_id: str
    instruction: str | None = None


@dataclass(frozen=True)
class AnswerQuestion:
    """A language model's own words about titles. liked, shown: item ids. Answered with a text.

    said: the reply so far, which the answer follows, for those who show an answer while it is written.
    """

    question: str
    liked: tuple[str, ...]
    shown: tuple[str, ...]
    said: str = ""


@dataclass(frozen=True)
class ReadByModel:
    """A message that the rules did not understand, or not all of it. Answered with the `Wishes` that a language model reads in it.

    wishes: what the rules read; an answer stands instead of it where it asks for anything.
    """

    message: str
    state: ChatState
    wishes: Wishes


Ask = Rank | Reasons | Explain | AnswerQuestion | ReadByModel
