"""What to say where no title is left for a list, and which wish to loosen."""

from __future__ import annotations

from llmrec.conversation.reader import Reader
from llmrec.conversation.state import ChatState
from llmrec.conversation.telling import looser_states, told_rules
from llmrec.recommenders.rules import NothingLeft


def nothing_left(reader: Reader, state: ChatState) -> str:
    """Whether all titles were shown, or the wishes leave none, and how many there would be without one of them."""
    told = ", ".join(told_rules(state))
    if _num_left(reader, state):
        return f"No more titles with {told}." if told else "That was the whole catalogue."
    if not told:
        return "No title is left: you know them all."
    ways = [
        f'{number:,} without "{wish}"' for wish, looser in looser_states(state) if (number := _num_left(reader, looser))
    ]
    how = f"There would be {', '.join(ways)}." if ways else 'Loosen several of these wishes, or say "reset".'
    return f"These wishes leave no title: {told}. {how}"


def _num_left(reader: Reader, state: ChatState) -> int:
    """Titles that a state allows, shown or not, and liked ones aside."""
    try:
        return reader.rules.choice(**vars(reader.allowed(state, shown=state.liked))).num_left
    except NothingLeft:
        return 0
