"""The rules that read English wishes: no learning, milliseconds, over any catalogue's own columns, values and titles.

words -> terms (titles, values, numbers, cues: `lexer`) -> groups under one cue (`groups`) -> edits (`grammar`). What the words of a
message mean is said in eval/phrasings/README.md; the vocabulary is in the YAML files of this package.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.conversation.edits import Action, Count, Edit, Surprise, Wishes
from llmrec.conversation.facets import Facets
from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_rules.grammar import Grammar, unspeakable
from llmrec.conversation.wish_rules.groups import Grouping
from llmrec.conversation.wish_rules.lexer import Lexer
from llmrec.conversation.wish_rules.objects import Reading
from llmrec.conversation.wish_rules.questions import is_question
from llmrec.conversation.wish_rules.terms import Cue, Number, Term, Titles, Unknown
from llmrec.conversation.wish_rules.words import MAX_CHARACTERS, Word, words_of
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch

_SILENT = (Cue("stop"), Cue("comma"), Number(0))  # what a message needs more than


class RuleReader:
    """Reads messages over one catalogue; made once, a message takes milliseconds."""

    def __init__(self, catalog: Catalog, facets: Facets, search: TitleSearch) -> None:
        self.catalog = catalog
        self._lexer = Lexer(facets, search)
        self._grammar = Grammar(facets, self._lexer.titles)

    def read(self, message: str, state: ChatState) -> Wishes:
        """What a message asks for in this state; `Wishes.unread` has the words that say nothing to the rules.

        Of a long message the first MAX_CHARACTERS characters are read.
        """
        message = message[:MAX_CHARACTERS]
        terms, words = self._lexer.terms(message, state)
        texts = [word.text for word in words]
        reading = Grouping(terms, texts).read()
        edits = self._grammar.edits(reading.groups, state)
        edits += [Surprise(name == "surprise_on") for name in reading.named if name.startswith("surprise")]
        action = _action(reading, edits, terms, texts)
        count = [] if reading.count is None else [Count(reading.count)]
        match action:
            case "explain":
                return Wishes(action="explain", number=_explained(terms, state))
            case "question":
                return Wishes(action="question", question=message.strip())
            case "more":
                return Wishes(tuple(count), "more")
            case "recommend":
                if not edits and not count and [word.text for word in words_of(message)] != texts:
                    return Wishes(unread=message)  # words that only make sense when they are mended: a title, perhaps
                return Wishes((*edits, *count), unread=_unread(message, terms, words, reading))
        return Wishes(action=action)


def _action(reading: Reading, edits: Sequence[Edit], terms: Sequence[Term], texts: Sequence[str]) -> Action:
    """What the message asks for besides: a cue of a whole message counts where nothing else is wished."""
    named = [name for name in reading.named if not name.startswith("surprise")]
    if "list" in named:
        return "list"
    if "help" in named and not edits and not any(isinstance(term.meaning, Unknown) for term in terms):
        return "help"
    if "explain" in named:
        return "explain"
    if "more_list" not in named and is_question(terms, texts):
        return "question"
    if edits:
        return "recommend"
    for name, action in (("reset", "reset"), ("undo", "undo"), ("quit", "quit"), ("more_list", "more")):
        if name in named:
            return action  # type: ignore[return-value]
    return "more" if reading.has_more else "recommend"


def _explained(terms: Sequence[Term], state: ChatState) -> int | None:
    """The number in the list of the title that "why" asks for."""
    start = next(
        place for place, term in enumerate(terms) if isinstance(term.meaning, Cue) and term.meaning.name == "explain"
    )
    for term in terms[start + 1 :]:
        match term.meaning:
            case Titles(mention=mention) if mention.item_ids and mention.item_ids[0] in state.shown:
                return state.shown.index(mention.item_ids[0]) + 1
            case Number(number) if 1 <= number <= len(state.shown):
                return number
    return None


def _unread(message: str, terms: Sequence[Term], words: Sequence[Word], reading: Reading) -> str:
    """The words that no rule knows, or no condition can say, as they were typed; all of a message without a word."""
    refused = {one.term for group in reading.groups for one in unspeakable(group)}
    unread = [term for place, term in enumerate(terms) if isinstance(term.meaning, Unknown) or place in refused]
    if all(isinstance(term.meaning, Cue | Number) and term.meaning in _SILENT for term in terms):
        return message
    return " ".join(dict.fromkeys(message[words[term.start].start : words[term.end - 1].end] for term in unread))
