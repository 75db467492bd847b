"""What the words of a message are taken for: the terms that the grammar puts together."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.conversation.edits import Bounds, Mention


@dataclass(frozen=True)
class Cue:
    """A word that says what is to be done: `name` is one of cues.yaml."""

    name: str


@dataclass(frozen=True)
class Titles:
    """Titles, by name or by a place in the latest list.

    is_reference: of an earlier turn ("the second", "it"); is_weak: a pronoun, which means titles only where one must stand. shared:
    the words as the catalogue spells them, where more than one title has them; part: whether the words are less than a title.
    """

    mention: Mention
    is_reference: bool = False
    is_weak: bool = False
    shared: str = ""
    part: bool = False


@dataclass(frozen=True)
class Value:
    """A value of a column, by its name. is_many: in the plural."""

    column: str
    value: str
    is_many: bool = False


@dataclass(frozen=True)
class Quality:
    """A word that speaks of a value. before: it names the value where another value follows."""

    column: str
    value: str
    word: str = ""
    before: bool = False
    also_names: bool = False


@dataclass(frozen=True)
class Limits:
    """Bounds of a column of numbers."""

    bounds: Bounds


@dataclass(frozen=True)
class Comparative:
    """Smaller or greater numbers than something has."""

    column: str
    smaller: bool


@dataclass(frozen=True)
class Adjective:
    """A word for small or large numbers of a column ("expensive"), and the bounds that it stands for by itself, if any ("old")."""

    column: str
    small: bool
    bounds: Bounds | None = None


@dataclass(frozen=True)
class ColumnName:
    """A column, by its name."""

    column: str


@dataclass(frozen=True)
class Number:
    """A number that is no bound."""

    number: int


@dataclass(frozen=True)
class Filler:
    """Nothing."""


@dataclass(frozen=True)
class Unknown:
    """A word that the reader does not know."""


Meaning = Cue | Titles | Value | Quality | Limits | Comparative | Adjective | ColumnName | Number | Filler | Unknown


@dataclass(frozen=True)
class Term:
    """Words start to end (not included) of the message and what they mean."""

    start: int
    end: int
    meaning: Meaning
