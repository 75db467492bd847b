"""One turn of a conversation: a message becomes wishes, these a new state, and that a reply. Nothing here ranks.

    steps = turn(reader, session, "something lighter, not horror")
    ask = next(steps)                    # a Rank, Explain, ... of `asks`: answer it
    ask = steps.send(answer)             # or steps.throw(error), an LlmrecError that the reply then says
    ...                                  # StopIteration.value is the Reply

The session changes at the very end: a turn that is given up leaves it as it was. Messages and titles are data: whatever they say, they
name items of the catalogue, or nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from llmrec.conversation.asks import AnswerQuestion, Ask, Explain, Rank, Ranked, Reasons
from llmrec.conversation.changes import changed
from llmrec.conversation.commands import HELP
from llmrec.conversation.edits import Mark, Wishes
from llmrec.conversation.mentions import answered, looked_up
from llmrec.conversation.nothing_left import nothing_left
from llmrec.conversation.reader import Reader
from llmrec.conversation.session import Listed, Reply, Session, Turn
from llmrec.conversation.state import ChatState
from llmrec.conversation.telling import told_change, told_state
from llmrec.errors import LlmrecError
from llmrec.recommenders.rules import NothingLeft
from llmrec.terminal import printable

MAX_MESSAGE_CHARACTERS = 2_000
MAX_PAST = 50  # changes that can be taken back
TOLD_OF = 10  # of the titles liked and of those shown, the latest that a question's answer is given the facts of
NOTHING_SHOWN = "There are no titles yet: name some that you like."
Steps = Generator[Ask, Any, Any]


def turn(reader: Reader, session: Session, message: str) -> Generator[Ask, Any, Reply]:
    """Answers one message. Yields what others must answer, and returns the reply."""
    return (yield from _Turn(reader, session).taken(message))


def greeting(num_items: int) -> str:
    """The first words of a conversation."""
    return f"{num_items:,} titles. Which do you like, or what do you wish for? (help says more)"


def too_long(length: int) -> str:
    """What is said of a message of more than MAX_MESSAGE_CHARACTERS."""
    return f"A message may have {MAX_MESSAGE_CHARACTERS:,} characters, but this one has {length:,}. Say it in fewer."


class _Turn:
    """The message on its way: lines of the reply are collected, the session is left alone until the end."""

    def __init__(self, reader: Reader, session: Session) -> None:
        self.reader, self.session = reader, session
        self.before, self.state = session.state, session.state
        self.past, self.open = list(session.past), session.open
        self.lines: list[str] = []
        self.understood = ""
        self.listed: tuple[Listed, ...] = ()
        self.choices: tuple[str, ...] = ()
        self.ended = False

    def taken(self, message: str) -> Steps:
        """The whole turn."""
        if len(message) > MAX_MESSAGE_CHARACTERS:
            self.lines.append(too_long(len(message)))
            return self._end(message[:MAX_MESSAGE_CHARACTERS])
        text = printable(message)
        try:
            wishes = yield from self._read(text)
        except LlmrecError as error:  # of a condition that cannot be
            self.lines.append(printable(str(error)))
            return self._end(message)
        if wishes is not None:
            yield from self._follow(wishes)
        return self._end(message)

    def _read(self, text: str) -> Generator[Ask, Any, Wishes | None]:
        """What the message asks for, with titles looked up; None where there is nothing to follow, or a title is asked back."""
        question = self.open
        chosen = text if question is None else answered(question, text)
        if chosen is None:
            self.lines.append(f"The choices are 1 to {len(question.offered)}; Enter for none.")
            return None
        if isinstance(chosen, Wishes):
            wishes = chosen
        elif not text:
            self.lines.append(greeting(self.reader.catalog.num_items))
            return None
        else:
            wishes = yield from self.reader.read(text, self.before)
            if (
                question is not None
            ):  # another line ends the message that was asked about; what was clear before it holds
                wishes = replace(wishes, edits=(*question.wishes.edits[: question.place], *wishes.edits))
        wishes, self.open, lines = looked_up(self.reader, wishes)
        self.lines += lines
        if self.open is not None:
            self.choices = tuple(self.reader.labels.of_ids(self.open.offered))
            return None
        return wishes

    def _follow(self, wishes: Wishes) -> Steps:
        after, notes = changed(self.before, wishes.edits, self.reader.facets)
        if wishes.action == "undo":
            yield from self._undo(after)
        elif wishes.action == "reset":
            self._move(ChatState())
            self.lines.append("All is forgotten. Which titles do you like, or what do you wish for?")
        elif wishes.action == "quit":
            self._move(after)
            self.lines.append("Goodbye.")
            self.ended = True
        else:
            self._understand(after, wishes, notes)
            yield from self._act(wishes)

    def _undo(self, after: ChatState) -> Steps:
        """The state before the latest change. A message that waited for an answer, and is ended by this one, is such a change, too."""
        if _differ(after, self.before):
            self.lines.append(f"Took back: {told_change(self.before, after, self.reader.labels)}.")
        elif not self.past:
            self.lines.append("There is nothing to take back.")
        else:
            self.state = replace(self.past.pop(), shown=())
            told = told_change(self.state, self.before, self.reader.labels)
            self.understood = f"took back: {told}"
            self.lines.append(f"Took back: {told}.")
            if not self.state.says_nothing:
                yield from self._list()

    def _understand(self, after: ChatState, wishes: Wishes, notes: Sequence[str]) -> None:
        """Says what the wishes changed, and what they could not."""
        if wishes.action == "more":  # the list goes on, whatever else the message says
            after = replace(after, shown=self.before.shown)
        self._move(after)
        self.understood = told_change(self.before, after, self.reader.labels)
        if self.understood:
            self.lines.append(f"understood: {self.understood}")
        if wishes.unread:
            self.lines.append(f"not understood: {printable(wishes.unread)}")
        had = [
            one
            for edit in wishes.edits
            if isinstance(edit, Mark) and edit.field == "liked"
            for one in edit.mention.item_ids
            if one in self.before.liked
        ]
        self.lines += [f"You have {label} already." for label in self.reader.labels.of_ids(list(dict.fromkeys(had)))]
        self.lines += notes
        if wishes.edits and not self.understood and not had and not notes:
            self.lines.append("That was understood before: nothing changes.")
        elif after.where != self.before.where or after.without != self.before.without:
            self._tell_left()

    def _tell_left(self) -> None:
        """How many titles the conditions leave; where they leave none, the list says so."""
        if not self.state.where and not self.state.without:
            self.lines.append("All titles again.")
            return
        try:
            left = self.reader.rules.choice(**vars(self.reader.allowed(self.state)))
        except NothingLeft:
            return
        self.lines.append("1 title left." if left.num_left == 1 else f"{left.num_left:,} titles left.")

    def _act(self, wishes: Wishes) -> Steps:
        is_new = _differ(self.state, self.before)
        is_asked = wishes.edits == () and not self.lines
        # what is only said in another word, or asked for without a wish, brings the same list again
        is_again = wishes.action == "recommend" and not is_new and (is_asked or bool(self.understood))
        if wishes.action == "explain":
            yield from self._explain(wishes.number)
        elif wishes.action == "question":
            yield from self._answer(wishes.question)
        elif wishes.action == "list":
            self.lines += told_state(self.state, self.reader.labels, self.reader.facets)
        elif wishes.action == "help":
            self.lines.append(HELP)
        if is_again:
            self.state = replace(self.state, shown=())
        if is_again or is_new or wishes.action == "more":
            yield from self._list()

    def _list(self) -> Steps:
        """The next titles for the state, which count as shown from now on."""
        state, reader = self.state, self.reader
        allowed = reader.allowed(state, shown=state.shown)
        found: Sequence[Ranked] = ()
        try:
            reader.rules.choice(**vars(allowed))
        except NothingLeft:
            self.lines.append(nothing_left(reader, state))
            return
        if state.surprise and not reader.has_vectors:
            self.lines.append("(This recommender has no vectors of the items, so it cannot surprise: the usual list.)")
        steering, instruction = reader.steering(state), self._instruction()
        try:
            found = yield Rank(state.liked, state.count, allowed, steering, instruction)
        except LlmrecError as error:
            self.lines.append(printable(str(error)))
            return
        if not found:
            self.lines.append(nothing_left(reader, state))
            return
        item_ids = tuple(one.item_id for one in found)
        reasons: Sequence[str] = [""] * len(found)
        try:
            reasons = yield Reasons(state.liked, item_ids, steering, instruction)
        except LlmrecError as error:  # the list stands
            self.lines.append(printable(str(error)))
        self._show(found, reader.labels.own(item_ids), [printable(reason) for reason in reasons])

    def _show(self, found: Sequence[Ranked], labels: Sequence[str], reasons: Sequence[str]) -> None:
        """The list, each title with its reason below it, or above them all where it is one for all; they count as shown."""
        shown = self.state.shown
        self.listed = tuple(
            Listed(rank, one.item_id, label, one.score, reason)
            for rank, (one, label, reason) in enumerate(zip(found, labels, reasons, strict=True), len(shown) + 1)
        )
        self.lines.append("More titles:" if shown else "You may like:")
        is_one_for_all = len(reasons) > 1 and len(set(reasons)) == 1
        if is_one_for_all and reasons[0]:
            self.lines.append(f"      {reasons[0]}")
        for one in self.listed:
            self.lines.append(f"{one.rank:>4}. {one.label}")
            if one.reason and not is_one_for_all:
                self.lines.append(f"      {one.reason}")
        self.state = replace(self.state, shown=(*shown, *(one.item_id for one in found)))

    def _instruction(self) -> str | None:
        return self.reader.instruction(self.state, self.session.instruction)

    def _explain(self, number: int | None) -> Steps:
        """Why a title of the list that the user saw."""
        shown, liked = self.before.shown, self.state.liked
        if number is None or not 1 <= number <= len(shown):
            self.lines.append(f"why takes the number of a title shown, 1 to {len(shown)}." if shown else NOTHING_SHOWN)
        elif not liked:
            self.lines.append("There is nothing yet that it could suit: name titles you like.")
        else:
            yield from self._ask(Explain(liked, shown[number - 1], self._instruction()))

    def _answer(self, question: str) -> Steps:
        """A language model's words about the titles liked and shown."""
        liked, shown = self.state.liked[-TOLD_OF:], self.before.shown[-TOLD_OF:]
        if not liked and not shown:
            self.lines.append(NOTHING_SHOWN)
        else:
            yield from self._ask(AnswerQuestion(question, liked, shown, "".join(f"{line}\n" for line in self.lines)))

    def _ask(self, ask: Ask) -> Steps:
        """The text that answers, or says why there is none."""
        try:
            self.lines.append((yield ask))
        except LlmrecError as error:
            self.lines.append(printable(str(error)))

    def _move(self, after: ChatState) -> None:
        """The state becomes another one, which `undo` can take back."""
        if _differ(after, self.before):
            self.past = [*self.past, self.before][-MAX_PAST:]
        self.state = after

    def _end(self, message: str) -> Reply:
        text = "\n".join(self.lines)
        session = self.session
        session.state, session.past, session.open = self.state, self.past, self.open
        session.turns += [Turn("user", message), Turn("assistant", text)]
        return Reply(text, self.state, self.understood, self.listed, self.choices, self.ended)


def _differ(one: ChatState, other: ChatState) -> bool:
    """Whether the wishes differ: the titles shown are none."""
    return replace(one, shown=()) != replace(other, shown=())
