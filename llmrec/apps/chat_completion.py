"""What Tab offers in a chat: commands, titles wherever in a sentence one may stand, columns and values, files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.conversation.reader import Reader

OFFERED = 12  # at most at a time
MOST_WORDS = 8  # of a title that is being typed
COMMANDS = {
    "more": "the next titles",
    "list": "what is understood so far",
    "undo": "takes the latest change back",
    "reset": "forgets everything",
    "why": "why 3: why the third title",
    "ask": "a language model's own words about these titles",
    "not": "never this title, nor what is like it",
    "help": "what may be said",
    "quit": "leaves",
    "/where": "conditions, such as genres=Comedy; year>=1990",
    "/save": "keeps this conversation in a file",
    "/transcript": "writes every turn to a file",
}
_FILE = re.compile(r"/(?:save|transcript)\s+(?P<begun>.*)$", re.IGNORECASE)
_CONDITION = re.compile(
    r"/where\s+(?:.*;)?\s*(?P<column>[^;=<>!|]*?)(?:!?=(?:[^;]*\|)?(?P<value>[^;|]*))?$", re.IGNORECASE
)
# A title may begin here. Without Tab nothing is offered elsewhere: most words of a sentence begin some title.
_LEADS = re.compile(
    r"(?:^|[;,\"“]|\b(?:like|liked|love|loved|enjoyed|hate|hated|not|no|than|seen|watched|own|forget|about|of|and|or)\s)\s*",
    re.IGNORECASE,
)


class ChatCompleter(Completer):
    """Completes what stands before the cursor."""

    def __init__(
        self,
        titles: Callable[[str, int], Sequence[str]],
        commands: Mapping[str, str],
        choices: Mapping[str, Sequence[str]],
    ) -> None:
        """titles(begun, limit) -> titles that `begun` may become; commands: name -> what it does; choices: column -> its values."""
        self.titles, self.commands, self.choices = titles, commands, choices
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The completions; more places are looked at where Tab asks than while somebody types."""
        before = document.text_before_cursor
        if len(before) > 2_000:
            return
        if file := _FILE.match(before):
            yield from self._files.get_completions(Document(file["begun"]), complete_event)
        elif condition := _CONDITION.match(before):
            yield from self._condition(condition)
        else:
            asked = complete_event.completion_requested
            yield from self._commands(before, asked)
            yield from self._titles(before, asked)

    def _commands(self, before: str, asked: bool) -> Iterable[Completion]:
        begun = before.lstrip().casefold()
        for name, meaning in self.commands.items():
            is_meant = begun.startswith("/") or (asked and begun and not name.startswith("/"))
            if is_meant and name.removeprefix("/").startswith(begun.removeprefix("/")) and begun != name:
                whole = f"/{name.removeprefix('/')}" if begun.startswith("/") else name
                yield Completion(whole, -len(begun), display_meta=meaning)

    def _condition(self, condition: re.Match[str]) -> Iterable[Completion]:
        column, value = condition["column"].casefold(), condition["value"]
        if value is None:
            for name in self.choices:
                if name.casefold().startswith(column):
                    yield Completion(f"{name}=", -len(column), display=name)
            return
        for name, values in self.choices.items():
            if name.casefold() == column.strip():
                found = [one for one in values if one.casefold().startswith(value.casefold())]
                yield from (Completion(one, -len(value)) for one in found[:OFFERED])

    def _titles(self, before: str, asked: bool) -> Iterable[Completion]:
        """Of the longest end of the text that begins a title."""
        places = {lead.end() for lead in _LEADS.finditer(before)}
        if asked:
            places |= {word.start() for word in re.finditer(r"\S+", before)}
        for place in sorted(places):
            begun = before[place:]
            if len(begun.strip()) >= 2 and len(begun.split()) <= MOST_WORDS and not begun.startswith("/"):
                found = self.titles(begun, OFFERED)
                if found and found != [begun]:
                    yield from (Completion(title, -len(begun)) for title in found)
                    return


def completer_of(reader: Reader) -> ChatCompleter:
    """The completions of a catalogue's chats."""

    def titles(begun: str, limit: int) -> list[str]:
        found = reader.search.begun(begun, limit)
        names = [printable(reader.catalog.title(item)) for item in found]
        labels = reader.labels.of(found)
        return [
            label if len(reader.search.named(name)) > 1 else name for name, label in zip(names, labels, strict=True)
        ]

    return ChatCompleter(titles, COMMANDS, reader.facets.choices)
