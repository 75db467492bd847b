"""One conversation as it is kept: its state now and before, the question that is open, what was said. And a message's reply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.conversation.edits import Wishes
from llmrec.conversation.state import ChatState


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, by whoever typed and whoever answered."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class OpenQuestion:
    """A title that was not clear, asked back. offered: item ids, in the order they were numbered from 1.

    wishes: the message's, with this mention still open; place: of the edit whose mention it is.
    """

    offered: tuple[str, ...]
    wishes: Wishes
    place: int


@dataclass
class Session:
    """One conversation. past: the states before the present one, latest last, which `undo` goes back to.

    instruction: a standing wish in words, for models trained with a prompt that takes one; `Recommender.recommend` has it, too.
    """

    state: ChatState = field(default_factory=ChatState)
    past: list[ChatState] = field(default_factory=list)
    open: OpenQuestion | None = None
    turns: list[Turn] = field(default_factory=list)
    instruction: str | None = None


@dataclass(frozen=True)
class Listed:
    """One title of a list. rank: from 1, as `why` and `not` count it. reason: one sentence from what was measured, "" without any."""

    rank: int
    item_id: str
    label: str
    score: float
    reason: str = ""


@dataclass(frozen=True)
class Reply:
    """What a message is answered. text: all of it, lines as a terminal shows them; the other fields are parts of it.

    understood: what the message changed, in words, "" where nothing; listed: the titles of a new list, best first; choices: labels of
    the titles that are asked back, numbered from 1; ended: whether the user leaves.
    """

    text: str
    state: ChatState
    understood: str = ""
    listed: tuple[Listed, ...] = ()
    choices: tuple[str, ...] = ()
    ended: bool = False
