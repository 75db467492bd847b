"""Reads messages over one catalogue, of any number of conversations: each message becomes `Wishes`, by the first that understands it.

1. An exact command (`commands`), 2. a title that the catalogue surely has, 3. the rules, 4. a language model for words that the rules
left unread, where there is one, 5. what nobody understands is a title, looked up and asked back. ";" separates what is read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from llmrec.conversation.asks import ReadByModel
from llmrec.conversation.commands import command
from llmrec.conversation.edits import Mark, Mention, Wishes
from llmrec.conversation.facets import Facets
from llmrec.conversation.labels import Labels
from llmrec.conversation.state import ChatState
from llmrec.conversation.telling import told_wishes
from llmrec.conversation.wish_rules.reader import RuleReader
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch, normalised
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.rules import Condition, ItemRules
from llmrec.recommenders.steering import Steering

_NOT = re.compile(r"(?P<not>/?not)\s+(?P<title>\S.*)$", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“”](?P<title>[^\"“”]*)[\"“”]$")
_KEPT = 4096  # titles found and messages read by a language model: a conversation that is read again brings the same


class ReadsWishes(Protocol):
    """Who reads a message in words, such as the rules."""

    def read(self, message: str, state: ChatState) -> Wishes: ...


class NoRules:
    """Reads nothing, so that a language model reads alone, where that is measured."""

    def read(self, message: str, state: ChatState) -> Wishes:
        """All of it is unread."""
        return Wishes(unread=message)


class Reader:
    """What reading needs, made once for a catalogue. One thread at a time uses it.

    search: the index of the catalogue's titles, where there is one already; by_rules: who reads instead of the rules. asks_model:
    whether a language model reads what they leave unread. has_vectors, takes_instruction: whether the recommender can tell what is like
    a title, and has a place for wishes in words in its prompt.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        search: TitleSearch | None = None,
        by_rules: ReadsWishes | None = None,
        asks_model: bool = False,
        has_vectors: bool = True,
        takes_instruction: bool = False,
    ) -> None:
        self.catalog = catalog
        self.rules = ItemRules(catalog)
        self.search = TitleSearch(catalog) if search is None else search
        self.facets = Facets(catalog)
        self.labels = Labels(catalog, self.search)
        self.by_rules = RuleReader(catalog, self.facets, self.search) if by_rules is None else by_rules
        self.asks_model, self.has_vectors, self.takes_instruction = asks_model, has_vectors, takes_instruction
        self.find = lru_cache(_KEPT)(self.search.find)
        self._values = {value.casefold() for values in self.facets.choices.values() for value in values}
        self._read_by_model: dict[tuple[str, ChatState], Wishes] = {}

    def read(self, message: str, state: ChatState) -> Generator[ReadByModel, Wishes, Wishes]:
        """What a message asks for; titles need not be looked up yet.

        Raises RequestError for a condition that cannot be.
        """
        if (found := command(message, self.rules, self.facets)) is not None:
            return found
        parts = [part.strip() for part in message.split(";") if part.strip()]
        if parts and (refused := _NOT.match(parts[0])) and not self.search.named(parts[0]):
            parts[1:] = [part if _NOT.match(part) else f"{refused['not']} {part}" for part in parts[1:]]
        wishes = Wishes()
        for part in parts:
            wishes = _joined(wishes, (yield from self._part(part, state)))
        return wishes

    def allowed(self, state: ChatState, *, shown: Sequence[str] = ()) -> Filter:
        """What may be recommended: nothing disliked, seen, with words that are not wanted, or `shown`, and as the conditions say."""
        with_words = [self.catalog.item_id(item) for words in state.without for item in self.search.with_words(words)]
        exclude = list(dict.fromkeys([*state.disliked, *state.seen, *with_words, *shown]))
        return Filter(where=list(state.where), exclude=exclude)

    def steering(self, state: ChatState) -> Steering | None:
        """What leans on a list without ruling anything out; None for nothing."""
        more, less = (
            tuple(Condition(one.column, "=", (one.value,)) for one in state.prefer if one.less is is_less)
            for is_less in (False, True)
        )
        likeness = {"disliked": state.disliked, "surprise": state.surprise} if self.has_vectors else {}
        return Steering(prefer=more, avoid=less, **likeness) or None

    def instruction(self, state: ChatState, standing: str | None) -> str | None:
        """The standing wish, and for a prompt that has a place for them the others in words."""
        if not self.takes_instruction:
            return standing
        return ", ".join(part for part in (standing, told_wishes(state)) if part)

    def _part(self, text: str, state: ChatState) -> Generator[ReadByModel, Wishes, Wishes]:
        if (found := self._titles(text, state)) is not None:
            return found
        wishes = self.by_rules.read(text, state)
        if not wishes.unread:
            return wishes
        understood = wishes.edits or wishes.action != "recommend"
        title = _as_title(text)
        if not understood and self.find(title.mention.text).kind != "near":
            return Wishes((title,))
        is_title = normalised(wishes.unread) == normalised(text)  # else some of its words are no title's
        if not understood and not is_title and self.find(wishes.unread).kind == "sure":
            return Wishes((replace(title, mention=Mention(wishes.unread)),))  # "teh godfathr"
        if self.asks_model:
            by_model = yield from self._by_model(text, state, wishes)
            if by_model.edits or by_model.action != "recommend":
                return by_model
        return Wishes((title,)) if is_title and not understood else wishes

    def _titles(self, text: str, state: ChatState) -> Wishes | None:
        """Titles that can be nothing else: in quotes, by number, after "/not", or just as the catalogue writes them."""
        if quoted := _QUOTED.match(text):
            return Wishes((Mark(Mention(quoted["title"]), "liked"),))
        same = self.search.named(text)
        if len(same) == 1 and text.casefold() not in self._values:
            return Wishes((Mark(Mention(text, (self.catalog.item_id(same[0]),)), "liked"),))
        if same or not (refused := _NOT.match(text)):
            return None
        title = refused["title"]
        if re.fullmatch(r"\d{1,6}", title) and 1 <= int(title) <= len(state.shown):
            return Wishes((Mark(Mention(title, (state.shown[int(title) - 1],)), "disliked"),))
        if refused["not"].startswith("/") or (quoted := _QUOTED.match(title)):
            return Wishes((Mark(Mention(quoted["title"] if quoted else title), "disliked"),))
        return None

    def _by_model(self, text: str, state: ChatState, wishes: Wishes) -> Generator[ReadByModel, Wishes, Wishes]:
        """A message in one state is read once by the model."""
        key = (text, state)
        if key not in self._read_by_model:
            self._read_by_model[key] = yield ReadByModel(text, state, wishes)
            if len(self._read_by_model) > _KEPT:
                del self._read_by_model[next(iter(self._read_by_model))]
        return self._read_by_model[key]


def _as_title(text: str) -> Mark:
    """What nobody understands: a title that is liked, or after "not" one that is not."""
    refused = _NOT.match(text)
    return Mark(Mention(refused["title"]), "disliked") if refused else Mark(Mention(text), "liked")


def _joined(first: Wishes, then: Wishes) -> Wishes:
    """Two parts of one message."""
    acts = first if then.action == "recommend" else then
    return replace(
        acts,
        edits=(*first.edits, *then.edits),
        unread=" ".join(part for part in (first.unread, then.unread) if part),
    )
