"""What a message of a chat means: titles (asked back where they are not clear), wishes and questions, as steps that somebody takes.

    reader = MessageReader(recommender.catalog, recommender.rules)
    for step in reader.read("Star Wars; Fargo", state):
        match step:
            case Say(text): ...                     # show it
            case Recommend(): ...                   # rank what reader.left(state) leaves, show reader.list_shown(state, item_ids)
            case Explain(item_id): ...
            case AnswerQuestion(question): ...
            case Leave(): ...

Nothing here ranks. Messages and titles are data: whatever they say, they name items of the catalogue, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmrec.conversation.state import ChatState, OpenQuestion
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch
from llmrec.errors import RequestError
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.rules import ItemRules
from llmrec.terminal import printable

TITLES = 10  # recommended at a time
CHOICES = 9  # offered at most where a title is not clear
_WHY = re.compile(r"/?why(?:\s+(?P<number>\d{1,6}))?\s*\??\s*$", re.IGNORECASE)
_QUESTION = re.compile(r"(?:/?ask\s++|\?)(?P<question>.*\w.*)$", re.IGNORECASE)
_NOT = re.compile(r"/?not\s+(?P<titles>\S.*)$", re.IGNORECASE)
_LISTED = re.compile(r"^ *\d{1,6}(?P<mark>[.)]) +(?P<label>\S(?:.*\S)?) *$", re.MULTILINE)
_WITH_ID = re.compile(r"(?P<label>.+) \[(?P<item_id>[^\[\]]+)\]$")
_KEPT_TITLES = 4096
NOTHING_SHOWN = "There are no titles yet: name some that you liked."
HELP = """\
Type titles you liked, the latest last; several with ';' between them. Spelling, case and articles do not matter.
Where a title is not clear, answer with a number (or several), with Enter for none, or with another title.
  list    what you liked so far        undo    take the last one back      reset   forget them all
  more    ten more titles              help    this text                   quit    leave (also Ctrl-D)
  not Fargo    never this title        not 3   nor the third of the list
  why 3   why the third title of the list, measured and in words
  ask Is it a comedy?   or  ? Is it a comedy?   a language model's own words about these titles
  /where genres=Comedy|Drama; year>=1990    only titles of which the catalogue says so (also !=, <=, <, >)
  /where off    all titles again            /where    what holds now
All of them may be typed with the slash. A title that reads like one of these goes in quotes: "more"."""


@dataclass(frozen=True)
class Say:
    """A text to show, of one line or several."""

    text: str


@dataclass(frozen=True)
class Recommend:
    """The next TITLES titles for the state are wanted."""


@dataclass(frozen=True)
class Explain:
    """Why this title, which was shown, is wanted."""

    item_id: str


@dataclass(frozen=True)
class AnswerQuestion:
    """A language model's words about the titles liked and shown are wanted."""

    question: str


@dataclass(frozen=True)
class Leave:
    """The conversation is over."""


Step = Say | Recommend | Explain | AnswerQuestion | Leave


class MessageReader:
    """Reads messages over one catalogue, of any number of conversations; each has a `ChatState` of its own."""

    def __init__(self, catalog: Catalog, rules: ItemRules, search: TitleSearch | None = None) -> None:
        """search: the index of the catalogue's titles, where there is one already."""
        self.catalog, self.rules = catalog, rules
        self.search = TitleSearch(catalog) if search is None else search
        self._find = lru_cache(_KEPT_TITLES)(
            self.search.find
        )  # a conversation that is read again names the same titles

    def read(self, message: str, state: ChatState) -> Iterator[Step]:
        """What one message asks for, step by step. The state changes between the steps: take each before asking for the next."""
        message = message.strip()
        if state.open is not None:
            chosen = self._chosen(message, state.open)
            if chosen is None:
                yield Say(f"The choices are 1 to {len(state.open.offered)}; Enter for none.")
                return
            question, state.open = state.open, None
            is_choice = isinstance(chosen, list)
            if is_choice:
                yield from self._take(chosen, question, state)
            # Another line instead of a number ends the message that was asked about.
            yield from self._titles(question.rest if is_choice else [], state, question.unwanted, question.changed)
            if is_choice:
                return
        yield from self._message(message, state)

    def left(self, state: ChatState) -> Filter | None:
        """What may still be recommended: neither shown yet nor unwanted, and as the conditions say; None where nothing is left."""
        unwanted = [self.catalog.item_id(item) for item in state.unwanted]
        left = Filter(where=list(state.where), exclude=[*unwanted, *state.shown])
        try:
            self.rules.choice(**vars(left))
        except RequestError:  # the conditions were read before, so that nothing else can be wrong with them
            return None
        return left

    def list_shown(self, state: ChatState, item_ids: Sequence[str], *, with_ids: bool = False) -> str:
        """The text that shows the next titles of a ranking, TITLES at most; they count as shown from now on.

        with_ids: whether a title that another item of the catalogue has, too, brings its id, so that `shown_in` can read it back.
        """
        fresh = list(item_ids[:TITLES])
        if not fresh:
            where = "; ".join(map(printable, state.where))
            return f"No more titles with {where}." if where else "That was the whole catalogue."
        lines = ["More titles:" if state.shown else "You may like:"]
        items = self.catalog.index(fresh).tolist()
        labels = [self._own_label(item) for item in items] if with_ids else self.labels(items)
        lines += [f"{rank:>4}. {label}" for rank, label in enumerate(labels, len(state.shown) + 1)]
        state.shown += fresh
        return "\n".join(lines)

    def shown_in(self, text: str) -> list[str]:
        """The item ids that a text of `list_shown(..., with_ids=True)` lists; any other lines are passed over."""
        listed = [match["label"] for match in _LISTED.finditer(text) if match["mark"] == "."]
        found = (self._labelled(label) for label in listed)
        return list(dict.fromkeys(self.catalog.item_id(item) for item in found if item is not None))

    def labels(self, items: Sequence[int]) -> list[str]:
        """How items are shown: title and year, and the item id where titles alone would look alike."""
        labels = [self._label(item) for item in items]
        return [self._with_id(label, item) if labels.count(label) > 1 else label
                for label, item in zip(labels, items, strict=True)]  # fmt: skip

    def _message(self, message: str, state: ChatState) -> Iterator[Step]:
        word = message.casefold().removeprefix("/")
        refused = _NOT.match(message)
        if message.casefold().split(" ")[0] == "/where":
            yield from self._where(message[len("/where") :].strip(), state)
        elif asked := _WHY.match(message):
            yield self._why(asked["number"], state)
        elif asked := _QUESTION.match(message):
            yield AnswerQuestion(asked["question"].strip()) if state.liked else Say(NOTHING_SHOWN)
        elif word in ("quit", "exit"):
            yield Leave()
        elif word == "help":
            yield Say(HELP)
        elif word == "more":
            yield Recommend()
        elif word == "list":
            yield self._liked(state)
        elif word == "reset":
            state.forget()
            yield Say("Forgotten. Which titles did you like?")
        elif word == "undo":
            yield from self._undo(state)
        elif refused and not self.search.named(message):  # "Not One Less" is a title
            yield from self._refuse(refused["titles"], state)
        else:
            yield from self._titles([part.strip() for part in message.split(";")], state, False, False)

    def _titles(self, titles: list[str], state: ChatState, unwanted: bool, changed: bool) -> Iterator[Step]:
        """Titles of one message, one after another; the first that is not clear is asked back, and the rest waits for the answer."""
        for place, title in enumerate(titles):
            if not title:
                continue
            match = self._find(title)
            question = OpenQuestion(match.items[:CHOICES], titles[place + 1 :], unwanted, changed)
            if match.kind == "sure":
                yield from self._take(match.items, question, state)
                changed = question.changed
                continue
            name = printable(title)[:80]
            if not match.items:
                yield Say(f"Nothing here is called '{name}'.")
                continue
            if match.kind == "near":
                yield Say(f"Nothing here is called '{name}'. The nearest:")
            elif len(question.offered) == 1:
                yield Say(f"Did you mean by '{name}':")
            else:
                yield Say(f"Which '{name}' do you mean?")
            for number, label in enumerate(self.labels(question.offered), 1):
                yield Say(f"  {number}) {label}")
            if len(match.items) > CHOICES:
                yield Say(f"  and {len(match.items) - CHOICES} more: type more of the title to see them")
            state.open = question
            return
        if changed:
            yield self._liked(state)
            yield Recommend()

    def _take(self, items: list[int], question: OpenQuestion, state: ChatState) -> Iterator[Step]:
        """Puts items where the message wants them; `question.changed` says whether any is new."""
        if question.unwanted:
            question.changed |= state.refuse(items)
            return
        for label in self.labels([item for item in items if item in state.liked]):
            yield Say(f"You have {label} already.")
        question.changed |= state.like(items)

    def _chosen(self, message: str, question: OpenQuestion) -> list[int] | str | None:
        """The items that an answer to a question chooses; the message itself where it is no answer; None for a number not offered."""
        words = message.replace(",", " ").split()
        if not all(word.isdecimal() for word in words):
            return message
        if not all(len(word) <= 6 and 1 <= int(word) <= len(question.offered) for word in words):
            return None
        return [question.offered[int(word) - 1] for word in words]

    def _refuse(self, titles: str, state: ChatState) -> Iterator[Step]:
        """`not Fargo`, or `not 3` for the third title shown."""
        parts = [part.strip() for part in titles.split(";")]
        numbered = [part for part in parts if re.fullmatch(r"\d{1,6}", part) and 1 <= int(part) <= len(state.shown)]
        shown = self.catalog.index([state.shown[int(part) - 1] for part in numbered]).tolist()
        changed = state.refuse(shown)
        yield from self._titles([part for part in parts if part not in numbered], state, True, changed)

    def _undo(self, state: ChatState) -> Iterator[Step]:
        if not state.liked:
            yield Say("There is nothing to take back.")
            return
        yield Say(f"Took back {self.labels([state.take_back()])[0]}.")
        if state.liked:
            yield self._liked(state)
            yield Recommend()

    def _where(self, asked: str, state: ChatState) -> Iterator[Step]:
        """Recommends only what the conditions allow, several with ';' between them; "off" lifts them, nothing shows them."""
        if not asked:
            columns = ", ".join(map(printable, self.catalog.fields))
            held = "; ".join(map(printable, state.where))
            here = f"Only titles with {held}." if held else "All titles may be recommended."
            yield Say(f"{here} The catalogue tells of each: {columns}.")
            return
        where = [] if asked.casefold() == "off" else [part.strip() for part in asked.split(";") if part.strip()]
        try:
            left = self.rules.choice(where=where)
        except RequestError as error:
            yield Say(printable(str(error)))
            return
        state.where, state.shown = where, []
        yield Say("All titles again." if left.items is None else f"{left.num_left:,} titles left.")
        if state.liked:
            yield Recommend()

    def _why(self, number: str | None, state: ChatState) -> Step:
        if number is None or not 1 <= int(number) <= len(state.shown):
            count = len(state.shown)
            return Say(f"why takes the number of a title shown, 1 to {count}." if count else NOTHING_SHOWN)
        if not state.liked:
            return Say("There is nothing yet that it could suit: name titles you liked.")
        return Explain(state.shown[int(number) - 1])

    def _liked(self, state: ChatState) -> Say:
        """What was liked, oldest first, and what is not wanted."""
        unwanted = "; ".join(self.labels(state.unwanted))
        liked = f"You liked: {'; '.join(self.labels(state.liked)) or 'nothing yet'}"
        return Say(f"{liked}\nNot wanted: {unwanted}" if unwanted else liked)

    def _label(self, item: int) -> str:
        title, year = (
            printable(self.catalog.title(item)) or printable(self.catalog.item_id(item)),
            self.search.years[item],
        )
        return f"{title} ({printable(year)})" if year and f"({year})" not in title else title

    def _with_id(self, label: str, item: int) -> str:
        return f"{label} [{printable(self.catalog.item_id(item))}]"

    def _own_label(self, item: int) -> str:
        """A label that no other item of the catalogue has."""
        label = self._label(item)
        return label if self._labelled(label) == item else self._with_id(label, item)

    def _labelled(self, label: str) -> int | None:
        """The one item that a label of `_own_label` stands for."""
        alike = [item for item in self.search.named(label) if self._label(item) == label]
        if len(alike) == 1:
            return alike[0]
        with_id = _WITH_ID.match(label)
        if with_id is None or not self.catalog.contains([with_id["item_id"]]).all():
            return None
        (item,) = self.catalog.index([with_id["item_id"]]).tolist()
        return item if self._label(item) == with_id["label"] else None
