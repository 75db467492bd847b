"""The session of a conversation that nobody kept: read anew from its messages, as a server without a memory does."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmrec.conversation.asks import Rank, Ranked, ReadByModel, Reasons
from llmrec.conversation.edits import Wishes
from llmrec.conversation.reader import Reader
from llmrec.conversation.session import Session, Turn
from llmrec.conversation.turn import turn


def replayed(reader: Reader, turns: Sequence[Turn]) -> Generator[ReadByModel, Wishes, Session]:
    """The session after these messages, oldest first.

    Nothing is ranked or written again: titles count as shown where an answer lists them by the labels of `Labels.own`, because models
    change, and a number means the title that was read next to it. What an answer says otherwise counts for nothing. A language model
    is asked for messages that the reader does not remember.
    """
    session = Session()
    for place, said in enumerate(turns):
        if said.role == "user":
            replied = turns[place + 1].text if place + 1 < len(turns) and turns[place + 1].role == "assistant" else ""
            yield from _again(reader, session, said.text, replied)
    session.turns = list(turns)
    return session


def _again(reader: Reader, session: Session, message: str, replied: str) -> Generator[ReadByModel, Wishes, None]:
    steps, answer = turn(reader, session, message), None
    while True:
        try:
            ask = steps.send(answer)
        except StopIteration:
            return
        if isinstance(ask, ReadByModel):
            answer = yield ask
        elif isinstance(ask, Rank):
            excluded = frozenset(ask.filter.exclude)
            listed = [one for one in reader.labels.listed_in(replied) if one not in excluded]
            answer = [Ranked(one, 0.0) for one in listed[: ask.k]]
        elif isinstance(ask, Reasons):
            answer = [""] * len(ask.item_ids)
        else:
            answer = ""
