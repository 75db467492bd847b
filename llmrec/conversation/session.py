"""One conversation as it is kept: its state now and before, the question that is open, what was said. And a message's reply."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from llmrec.conversation.edits import Wishes
from llmrec.conversation.edits_json import wishes_as_json, wishes_from_json
from llmrec.conversation.state import ChatState
from llmrec.data.catalog import Catalog
from llmrec.errors import DataError, LlmrecError
from llmrec.files import read_json, write_json

FORMAT = 1  # of the file that a conversation is kept in


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

    def save(self, path: str | Path) -> None:
        """Writes the conversation to a JSON file, all of it or nothing. Raises LlmrecError where it cannot be written."""
        question = self.open
        written: dict[str, Any] = {
            "format": FORMAT,
            "state": self.state.as_json(),
            "past": [state.as_json() for state in self.past],
            "turns": [{"role": said.role, "text": said.text} for said in self.turns],
        }
        if self.instruction is not None:
            written["instruction"] = self.instruction
        if question is not None:
            written["open"] = {
                "offered": list(question.offered), "wishes": wishes_as_json(question.wishes), "place": question.place
            }  # fmt: skip
        write_json(path, written)

    @classmethod
    def load(cls, path: str | Path, catalog: Catalog) -> Self:
        """The conversation that `save` wrote, with items of the same catalogue.

        Raises DataError, in a sentence, for a file that is missing, damaged or of a newer format, and for ids that the catalogue lacks.
        """
        written = read_json(path, "conversation", DataError)
        number = written.pop("format", None)
        if isinstance(number, int) and number > FORMAT:
            raise DataError(
                f"the conversation '{path}' is of format {number}, but this llmrec reads {FORMAT}. Update it."
            )
        try:
            if number != FORMAT:
                raise DataError("it has no format that is known.")
            session, ids = cls(**_fields(written)), set()
            for state in (session.state, *session.past):
                ids |= {*state.liked, *state.disliked, *state.seen, *state.shown}
            if session.open is not None:
                ids |= {*session.open.offered, *session.open.wishes.item_ids}
        except LlmrecError as error:
            raise DataError(f"'{path}' is no conversation that /save wrote, or it is damaged: {error}") from error
        if unknown := sorted(one for one in ids if not catalog.contains([one])[0]):
            raise DataError(
                f"the conversation '{path}' names {len(unknown)} items that this catalogue lacks, such as '{unknown[0][:60]}'. "
                "Go on with it on the run that it was held with."
            )
        return session


def _fields(written: dict[str, Any]) -> dict[str, Any]:
    """A session's fields. Raises DataError for what is none."""
    known = ("state", "past", "turns", "instruction", "open")
    if unknown := sorted(set(written) - set(known)):
        raise DataError(f"it has a field '{unknown[0][:60]}'. Known are: {', '.join(known)}.")
    past, turns, instruction = written.get("past", []), written.get("turns", []), written.get("instruction")
    if not isinstance(past, list) or not isinstance(turns, list) or not isinstance(instruction, str | None):
        raise DataError("past and turns should be lists, and instruction a text.")
    found: dict[str, Any] = {
        "state": ChatState.from_json(written.get("state", {})),
        "past": [ChatState.from_json(state) for state in past],
        "turns": [_turn(said) for said in turns],
        "instruction": instruction,
    }
    return found | ({"open": _question(written["open"])} if "open" in written else {})


def _turn(said: object) -> Turn:
    match said:
        case {"role": "user" | "assistant" as role, "text": str(text)}:
            return Turn(role, text)
    raise DataError(f"a turn should have a role, user or assistant, and a text, but one is {str(said)[:60]!r}.")


def _question(read: object) -> OpenQuestion:
    match read:
        case {"offered": [*offered], "wishes": dict(wishes), "place": int(place)} if all(
            isinstance(one, str) for one in offered
        ):
            question = OpenQuestion(tuple(offered), wishes_from_json(wishes), place)
            if question.offered and 0 <= place < len(question.wishes.edits):
                return question
    raise DataError(f"an open question should have offered, wishes and a place in them, but it is {str(read)[:60]!r}.")


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
