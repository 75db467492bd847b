"""The exact commands of a conversation: words that mean one thing whatever else they could mean, with or without a slash."""

from __future__ import annotations

import re
from typing import get_args

from llmrec.conversation.edits import Action, SetWhere, Wishes
from llmrec.conversation.facets import Facets
from llmrec.recommenders.rules import ItemRules, conditions_of

_WORDS: dict[str, Action] = {
    **{action: action for action in get_args(Action) if action in ("more", "list", "undo", "reset", "help", "quit")},
    "exit": "quit",
}
_WHY = re.compile(r"/?why(?:\s+(?P<number>\d{1,6}))?\s*\??\s*$", re.IGNORECASE)
_QUESTION = re.compile(r"(?:/?ask\s++|\?)(?P<question>.*\w.*)$", re.IGNORECASE)
_WHERE = re.compile(r"/where\s+(?P<conditions>.*)$", re.IGNORECASE)
HELP = """\
Say what you would like in your own words, several wishes at once; the latest word counts:
  something lighter, not horror, from the nineties     like Fargo but funnier     no more Star Trek
  older ones     five films     surprise me     more like the third     forget Batman     any year
Or name titles that you like, several with ';' between them. Spelling, case and articles do not matter.
Where a title is not clear, answer with a number (or several), with Enter for none, or with another title.
  list    what is understood so far    undo    take the latest change back    reset   forget everything
  more    the next titles              help    this text                      quit    leave (also Ctrl-D)
  not 3   never the third of the list, and less like it    why 3   why the third (or: why the second?)
  ask Is it a comedy?   or  ? Is it a comedy?   a language model's own words about these titles
  /where genres=Comedy|Drama; year>=1990    only titles of which the catalogue says so (also !=, <=, <, >)
  /where off    all titles again
All of them may be typed with the slash. A title that reads like one of these goes in quotes: "more"."""


def command(message: str, rules: ItemRules, facets: Facets) -> Wishes | None:
    """What an exact command asks for, None where the message is none.

    Raises RequestError for conditions that cannot be, or that leave nothing.
    """
    word = message.casefold()
    if action := "list" if word == "/where" else _WORDS.get(word.removeprefix("/")):
        return Wishes(action=action)
    if asked := _WHY.match(message):
        return Wishes(action="explain", number=int(asked["number"]) if asked["number"] else None)
    if asked := _QUESTION.match(message):
        return Wishes(action="question", question=asked["question"].strip())
    if asked := _WHERE.match(message):
        texts = [part.strip() for part in asked["conditions"].split(";") if part.strip()]
        conditions = [] if [text.casefold() for text in texts] == ["off"] else conditions_of(texts)
        rules.choice(where=conditions)
        return Wishes((SetWhere(tuple(map(facets.spelt, conditions))),))
    return None
