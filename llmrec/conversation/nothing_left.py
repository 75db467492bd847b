"""What to say where no title is left for a list, and which wish to loosen."""

from __future__ import annotations

from dataclasses import replace

from llmrec.conversation.reader import Reader
from llmrec.conversation.state import ChatState
from llmrec.conversation.telling import told_where
from llmrec.recommenders.rules import NothingLeft
from llmrec.terminal import printable


def nothing_left(reader: Reader, state: ChatState) -> str:
    """One sentence: whether all titles were shown, or the wishes leave none, and how many there are without one of them."""
    wishes = [*told_where(state.where), *(f"no title with '{printable(one)}'" for one in state.without)]
    told = ", ".join(wishes)
    if _num_left(reader, state):
        return f"No more titles with {told}." if told else "That was the whole catalogue."
    looser = [
        (told_where([one for one in state.where if one.column == column]),
         replace(state, where=tuple(one for one in state.where if one.column != column)))
        for column in dict.fromkeys(one.column for one in state.where)
    ]  # fmt: skip
    looser += [
        (
            [f"no title with '{printable(words)}'"],
            replace(state, without=tuple(one for one in state.without if one != words)),
        )
        for words in state.without
    ]
    ways = [
        f"without {', '.join(said)} there would be {number:,}"
        for said, one in looser
        if (number := _num_left(reader, one))
    ]
    how = f"{'; '.join(ways)}." if ways else 'Loosen several of them, or say "reset".'
    return f"No title is left with {told}: {how}" if ways else f"No title is left with {told}. {how}"


def _num_left(reader: Reader, state: ChatState) -> int:
    """Titles that a state allows, shown or not, and liked ones aside."""
    allowed = reader.allowed(state, shown=state.liked)
    try:
        return reader.rules.choice(**vars(allowed)).num_left
    except NothingLeft:
        return 0
