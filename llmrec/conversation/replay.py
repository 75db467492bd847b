"""The state of a conversation that nobody kept: read anew from its messages, as a server without a memory does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmrec.conversation.messages import MessageReader, Recommend
from llmrec.conversation.state import ChatState


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, by whoever typed and whoever answered."""

    role: Literal["user", "assistant"]
    text: str


def state_after(reader: MessageReader, turns: Sequence[Turn]) -> ChatState:
    """What is known after these messages, oldest first.

    Titles count as shown where an answer lists them (`list_shown(..., with_ids=True)`), not where a ranking would now: models change,
    and a number means the title that was read next to it. What an answer says otherwise counts for nothing.
    """
    state, lists = ChatState(), False
    for turn in turns:
        if turn.role == "user":
            lists = any(isinstance(step, Recommend) for step in list(reader.read(turn.text, state)))
        elif lists:
            state.shown += [item_id for item_id in reader.shown_in(turn.text) if item_id not in state.shown]
    return state
