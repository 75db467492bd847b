"""One visitor's page: the conversation with its state, what was set by hand, and what an action makes of them.

An action is a small dict that the page's script sends: `do` says what, the rest is checked here, as anybody may send anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmrec.apps.web.runs import Shelf, ShownRun
from llmrec.conversation.changes import changed
from llmrec.conversation.edits import (
    Allow,
    Bounds,
    Count,
    Drop,
    Edit,
    Exclude,
    ForgetColumn,
    Mark,
    Mention,
    Require,
    Surprise,
)
from llmrec.conversation.session import Listed, Reply, Session, Turn
from llmrec.conversation.state import MAX_COUNT, ChatState
from llmrec.conversation.turn import MAX_MESSAGE_CHARACTERS, MAX_PAST
from llmrec.errors import LlmrecError, RequestError
from llmrec.explain.reasons import reasons
from llmrec.recommenders.diversity import parse_diversity
from llmrec.terminal import printable

MAX_TITLES = 200  # liked, disliked and seen, each
MAX_TURNS = 60  # messages and replies that are kept
DIVERSITIES = {
    "": "as ranked",
    "mmr:0.3": "a little less alike",
    "mmr:0.6": "much less alike",
    "ssd:0.5": "varied row by row",
}


@dataclass(frozen=True)
class RunList:
    """What one run recommends, or the sentence that says why it does not. before: item ids of the lists that "more" went on from."""

    run: ShownRun
    listed: tuple[Listed, ...] = ()
    problem: str = ""
    before: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The item ids of this list and those before it."""
        return (*self.before, *(one.item_id for one in self.listed))


class OneAtATime:
    """A lock. Gradio copies the first visit for each new session, and a copy has a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> OneAtATime:
        return OneAtATime()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@dataclass
class Visit:
    """What is kept of one browser session. problem: a sentence about the latest action, "" where it went well.

    number: the browser's own of the latest action. talk: what was said, as the page shows it, without the lists, which are cards.
    choices: titles that are asked back.
    """

    session: Session = field(default_factory=Session)
    diversity: str = ""
    lists: tuple[RunList, ...] = ()
    problem: str = ""
    number: int = 0
    talk: list[Turn] = field(default_factory=list)
    choices: tuple[str, ...] = ()
    lock: OneAtATime = field(default_factory=OneAtATime, repr=False, compare=False)

    @property
    def state(self) -> ChatState:
        """The conversation's."""
        return self.session.state


def act(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    """Carries an action out; a sentence in `visit.problem` where it cannot be. The lists follow, and then the action's number."""
    with visit.lock:
        number, visit.problem = visit.number, ""
        is_message = action.get("do") == "say"
        try:
            number = int(_text(action, "number", 12))
            if is_message:
                say(shelf, visit, _text(action, "text", MAX_MESSAGE_CHARACTERS + 1))
            else:
                _ACTIONS[_text(action, "do")](shelf, visit, action)
        except (KeyError, ValueError):
            visit.problem = "That action is not known here. Load the page again."
        except LlmrecError as error:
            visit.problem = str(error)
        if not is_message:
            visit.session.open, visit.choices = None, ()  # what was asked back is answered by hand
            rank(shelf, visit)
        visit.number = (
            number  # last: what shows the lists before meanwhile, with their reasons, does not answer this action
        )


def say(shelf: Shelf, visit: Visit, message: str) -> None:
    """One message of the conversation; the cards follow its list."""
    before, session = visit.state, visit.session
    reply = shelf.runs[0].recommender.converse(session, message)
    session.turns = session.turns[-MAX_TURNS:]
    visit.choices = reply.choices
    spoken = without_list(reply)
    visit.talk = [*visit.talk, Turn("user", printable(message[:MAX_MESSAGE_CHARACTERS])), Turn("assistant", spoken)][
        -MAX_TURNS:
    ]
    if visit.diversity and replace(before, shown=()) != replace(visit.state, shown=()):
        rank(shelf, visit)  # the conversation knows nothing of the page's variety
    elif reply.listed:
        goes_on = len(visit.state.shown) > len(reply.listed)  # "more"
        others = (_list_of(old.run, shelf, visit, old.shown if goes_on else ()) for old in visit.lists[1:])
        visit.lists = (RunList(shelf.runs[0], reply.listed), *others)
    elif replace(before, shown=()) != replace(visit.state, shown=()):
        rank(shelf, visit)


def without_list(reply: Reply) -> str:
    """What a reply says beside its list, and how many titles that has."""
    rows = reply.text.split("\n")
    labels = {f"{one.rank:>4}. {one.label}" for one in reply.listed}
    places = [place for place, row in enumerate(rows) if row in labels]
    if not places:
        return reply.text
    start, after = places[0] - 1, places[-1] + 1
    while start > 0 and rows[start].startswith(" "):  # one reason for all of them
        start -= 1
    while after < len(rows) and rows[after].startswith(" "):  # the last title's reason
        after += 1
    return "\n".join([*rows[:start], f"{rows[start]} {len(reply.listed)} on the cards.", *rows[after:]])


def rank(shelf: Shelf, visit: Visit) -> None:
    """Every run's list for the state as it is."""
    visit.lists = tuple(_list_of(run, shelf, visit) for run in shelf.runs)
    visit.session.state = replace(visit.state, shown=tuple(one.item_id for one in visit.lists[0].listed))


def _list_of(run: ShownRun, shelf: Shelf, visit: Visit, shown: tuple[str, ...] = ()) -> RunList:
    """shown: item ids that do not come again."""
    state = visit.state
    try:
        found = run.recommender.recommend(
            state.liked, state.count, **vars(run.reader.allowed(state, shown=shown)), steering=run.reader.steering(state),
            diversity=parse_diversity(visit.diversity) if visit.diversity else None,
            instruction=run.reader.instruction(state, visit.session.instruction),
        )  # fmt: skip
    except LlmrecError as error:
        return RunList(run, problem=str(error))
    labels = shelf.reader.labels.own([one.item_id for one in found])
    places = enumerate(zip(found, labels, strict=True), len(shown) + 1)
    return RunList(
        run, tuple(Listed(rank, one.item_id, label, one.score) for rank, (one, label) in places), before=shown
    )


def needs_reasons(visit: Visit) -> bool:
    """Whether a list has titles without a reason; to somebody new there is none to give."""
    return bool(visit.state.liked) and any(not one.reason for found in visit.lists for one in found.listed)


def give_reasons(visit: Visit) -> bool:
    """Measures a reason for every title of the lists. False where the lists have become others meanwhile, or cannot be measured."""
    lists, state, found = visit.lists, visit.state, []
    for one in lists:
        steering, instruction = (
            one.run.reader.steering(state),
            one.run.reader.instruction(state, visit.session.instruction),
        )
        try:
            texts = reasons(
                one.run.recommender,
                state.liked,
                [title.item_id for title in one.listed],
                steering=steering,
                instruction=instruction,
            )
        except LlmrecError:  # the list stands without them
            return False
        listed = tuple(replace(title, reason=why.text) for title, why in zip(one.listed, texts, strict=True))
        found.append(replace(one, listed=listed))
    with visit.lock:
        if visit.lists is not lists:
            return False
        visit.lists = tuple(found)
    return True


def _edit(shelf: Shelf, visit: Visit, *edits: Edit) -> None:
    """Changes the state; the one before is kept for `undo`."""
    after, notes = changed(visit.state, edits, shelf.facets)
    if any(len(ids) > MAX_TITLES for ids in (after.liked, after.disliked, after.seen)):
        raise RequestError(f"a list of more than {MAX_TITLES} titles is not kept here. Remove some first.")
    if after != visit.state:
        visit.session.past = [*visit.session.past[1 - MAX_PAST :], visit.state]
        visit.session.state = after
    visit.problem = " ".join(notes)


def _mark(where: str) -> Callable[[Shelf, Visit, Mapping[str, Any]], None]:
    def mark(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
        item_id = _item(shelf, action)
        _edit(shelf, visit, Mark(Mention(shelf.catalog.title(shelf.catalog.index([item_id])[0]), (item_id,)), where))

    return mark


def _forget(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    """A title leaves the lists."""
    item_id, state = _item(shelf, action), visit.state
    kept = {
        name: tuple(one for one in getattr(state, name) if one != item_id) for name in ("liked", "disliked", "seen")
    }
    _replace(visit, replace(state, **kept))


def _cycle(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    """A value of a column: from nothing to wanted, from wanted to kept out, and back."""
    column, value = _value(shelf, action)
    wanted = any(one.operator == "=" and value in one.values for one in visit.state.where if one.column == column)
    refused = any(one.operator == "!=" and value in one.values for one in visit.state.where if one.column == column)
    if wanted:
        _edit(shelf, visit, Drop(column, value), Exclude(column, (value,)))
    elif refused:
        _edit(shelf, visit, Allow(column, value))
    else:
        _edit(shelf, visit, Require(column, (value,), also=True))


def _release(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    """A condition, a preference or words leave the state, named by the text that shows them."""
    text, state = _text(action, "text"), visit.state
    _replace(
        visit,
        replace(
            state,
            where=tuple(one for one in state.where if str(one) != text),
            prefer=tuple(one for one in state.prefer if str(one) != text),
            without=tuple(one for one in state.without if one != text),
        ),
    )


def _bounds(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    """Both bounds of a column of numbers, either may be empty."""
    column = _text(action, "column")
    if column not in shelf.facets.number_columns:
        raise ValueError(column)
    low, high = (_number(action, side) for side in ("low", "high"))
    if low is not None and high is not None and low > high:
        raise RequestError(f"{column} from {low:g} to {high:g} leaves nothing. Make the first number the smaller one.")
    _edit(
        shelf,
        visit,
        *([ForgetColumn(column)] if low is None and high is None else [Bounds(column, low, high, both=True)]),
    )


def _count(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    number = int(_text(action, "value"))
    if not 1 <= number <= MAX_COUNT:
        raise RequestError(f"a list has from 1 to {MAX_COUNT} titles, not {number}.")
    _edit(shelf, visit, Count(number))


def _diversity(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    chosen = _text(action, "value")
    if chosen not in DIVERSITIES:
        raise ValueError(chosen)
    visit.diversity = chosen


def _undo(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    if not visit.session.past:
        raise RequestError("there is nothing to undo yet.")
    visit.session.state = visit.session.past.pop()


def _reset(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    _replace(visit, ChatState(count=visit.state.count))


def _surprise(shelf: Shelf, visit: Visit, action: Mapping[str, Any]) -> None:
    _edit(shelf, visit, Surprise(not visit.state.surprise))


def _replace(visit: Visit, after: ChatState) -> None:
    if after != visit.state:
        visit.session.past = [*visit.session.past[1 - MAX_PAST :], visit.state]
        visit.session.state = after


def _text(action: Mapping[str, Any], name: str, most: int = 500) -> str:
    value = action[name]
    if not isinstance(value, str):
        raise ValueError(name)
    return value[:most]


def _number(action: Mapping[str, Any], name: str) -> float | None:
    text = _text(action, name).strip()
    number = float(text) if text else None
    if number is not None and not abs(number) < 1e15:  # also NaN
        raise RequestError(f"'{text[:20]}' is no number to compare with.")
    return number


def _item(shelf: Shelf, action: Mapping[str, Any]) -> str:
    item_id = _text(action, "id")
    shelf.catalog.index([item_id])
    return item_id


def _value(shelf: Shelf, action: Mapping[str, Any]) -> tuple[str, str]:
    column, value = _text(action, "column"), _text(action, "value")
    if value not in shelf.facets.choices[column]:
        raise ValueError(value)
    return column, value


_ACTIONS: dict[str, Callable[[Shelf, Visit, Mapping[str, Any]], None]] = {
    "like": _mark("liked"), "dislike": _mark("disliked"), "seen": _mark("seen"), "forget": _forget,
    "value": _cycle, "bounds": _bounds, "release": _release, "count": _count, "diversity": _diversity,
    "surprise": _surprise, "undo": _undo, "reset": _reset,
}  # fmt: skip
