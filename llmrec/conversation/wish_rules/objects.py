"""What a message speaks of, in groups that one cue governs."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.conversation.wish_rules.terms import Meaning, Titles, Value


@dataclass
class Object:
    """One title, value, quality or number of a message.

    term: its place among the terms; joiner: "or", "and", "comma" or "" before it; than: the titles that it is compared with.
    """

    meaning: Meaning
    term: int
    joiner: str = ""
    than: Titles | None = None


@dataclass
class Group:
    """Objects under one cue. mode: the cue, "" for none; flags: what is said of them; also: at which values "also" stood."""

    mode: str
    sentence: int
    objects: list[Object] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    also_at: set[int] = field(default_factory=set)

    @property
    def num_values(self) -> int:
        return sum(isinstance(one.meaning, Value) for one in self.objects)

    @property
    def is_also(self) -> bool:
        """Whether "also" stands before or behind all values, and not between them."""
        return bool({0, self.num_values} & self.also_at)


@dataclass
class Reading:
    """What was found in a message. named: cues of whole messages; count: None where no number of titles is said."""

    groups: list[Group]
    named: list[str]
    count: int | None
    has_more: bool
