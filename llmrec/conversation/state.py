"""What a conversation knows of its user: plain values that can be shown, corrected and written down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from llmrec.errors import DataError, LlmrecError
from llmrec.recommenders.rules import Condition

COUNT = 10  # titles of a list, until the user asks for another number
MAX_COUNT = 100
_PREFERENCE = re.compile(r"(?P<column>[^+=-][^+=]*?)(?P<sign>[+-])=(?P<value>.+)", re.DOTALL)


@dataclass(frozen=True)
class Preference:
    """A value that ranks higher, or lower with `less`; nothing is kept out by it. word: how the user put it ("lighter")."""

    column: str
    value: str
    less: bool = False
    word: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`genres+=Comedy`, `genres-=War`. Raises DataError for anything else."""
        read = _PREFERENCE.fullmatch(text)
        if read is None:
            raise DataError(f"a preference should read like genres+=Comedy or genres-=War, but it is '{text[:80]}'.")
        return cls(read["column"].strip(), read["value"].strip(), read["sign"] == "-")

    def __str__(self) -> str:
        return f"{self.column}{'-=' if self.less else '+='}{self.value}"


@dataclass(frozen=True)
class ChatState:
    """One user's wishes. liked, disliked, seen: item ids, oldest first, an item in one of them only.

    liked is the history that the ranking reads. disliked never comes, and what is like it ranks lower; seen never comes. without: no
    title with these words comes. where: what the catalogue must say of a title. surprise: whether the list should be unlike the usual
    one. count: titles of a list. shown: item ids of the latest list.
    """

    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    prefer: tuple[Preference, ...] = ()
    surprise: bool = False
    count: int = COUNT
    shown: tuple[str, ...] = ()

    @property
    def says_nothing(self) -> bool:
        """Whether there is no wish that a list could follow."""
        return replace(self, shown=(), count=COUNT) == ChatState()

    def as_json(self) -> dict[str, Any]:
        """JSON object, empty fields left out: `ChatState.from_json` reads it."""
        found: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if value != one.default:
                found[one.name] = [_json(entry) for entry in value] if isinstance(value, tuple) else value
        found |= {"words": [one.word for one in self.prefer]} if any(one.word for one in self.prefer) else {}
        return found

    @classmethod
    def from_json(cls, read: object) -> Self:
        """The state that `as_json` wrote. Raises DataError for what is none; whether the catalogue has the ids is not looked up."""
        if not isinstance(read, dict):
            raise DataError(f"a state should be a JSON object, but it is {str(read)[:60]!r}.")
        known = {one.name for one in fields(cls)} | {"words"}
        if unknown := sorted(set(read) - known):
            raise DataError(f"a state has no field '{unknown[0][:60]}'. It has: {', '.join(sorted(known))}.")
        values = dict(read)
        words = _texts(values.pop("words", []), "words")
        for name in set(values) - {"surprise", "count", "where"}:
            values[name] = _texts(values[name], name)
        if "where" in values:
            values["where"] = _conditions(values["where"])
        if "prefer" in values:
            prefer = [Preference.parse(text) for text in values["prefer"]]
            words = words + ("",) * (len(prefer) - len(words))
            values["prefer"] = tuple(replace(one, word=word) for one, word in zip(prefer, words, strict=False))
        if not isinstance(values.get("surprise", False), bool):
            raise DataError(f"a state's surprise is true or false, but it is {values['surprise']!r:.60}.")
        count = values.get("count", COUNT)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
            raise DataError(f"a state's count is from 1 to {MAX_COUNT}, but it is {count!r:.60}.")
        return cls(**values)


def _json(value: object) -> object:
    if isinstance(value, Condition):  # a value may hold "|"
        return {"column": value.column, "operator": value.operator, "values": list(value.values)}
    return str(value)


def _texts(values: object, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"a state's {name} should be a list of texts, but it is {str(values)[:60]!r}.")
    return tuple(values)


def _conditions(values: object) -> tuple[Condition, ...]:
    """Conditions as `as_json` writes them, or as texts (`genres=Comedy|Drama`)."""
    if not isinstance(values, list):
        raise DataError(f"a state's where should be a list, but it is {str(values)[:60]!r}.")
    try:
        return tuple(
            Condition.parse(value)
            if isinstance(value, str)
            else Condition(value["column"], value["operator"], tuple(value["values"]))
            for value in values
        )
    except (TypeError, KeyError) as error:
        raise DataError(
            f"a state's condition should have column, operator and values, but one is {str(values)[:60]!r}."
        ) from error
    except LlmrecError as error:
        raise DataError(f"a state's where: {error}") from error
