"""What a message asks for, in a small structured form: changes of the state, in order, and one action.

The readers of messages, by rules or by a language model, write it; `changes.changed` carries it out. Columns, values and titles are the
catalogue's own. eval/phrasings/README.md says which words mean what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.recommenders.rules import Condition

Action = Literal["recommend", "more", "explain", "question", "list", "undo", "reset", "help", "quit"]


@dataclass(frozen=True)
class Mention:
    """A title as a message names it. item_ids: what it stands for; empty where nobody has looked it up yet, or it is not clear."""

    text: str
    item_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """Titles that are liked, not liked, or only known."""

    mention: Mention
    field: Literal["liked", "disliked", "seen"]


@dataclass(frozen=True)
class Without:
    """No title with these words."""

    words: str


@dataclass(frozen=True)
class Require:
    """One of these values, as a condition. also: as another value of the column's last condition, which stays."""

    column: str
    values: tuple[str, ...]
    also: bool = False


@dataclass(frozen=True)
class Exclude:
    """None of these values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """Bounds of a column of numbers, None where there is none.

    open: the number itself does not pass. both: old bounds of either side go.
    """

    column: str
    low: float | None = None
    high: float | None = None
    open: bool = False
    both: bool = False


@dataclass(frozen=True)
class Compare:
    """Smaller (or greater) numbers than a reference has: `than`, else what the state offers."""

    column: str
    smaller: bool
    than: Mention | None = None


@dataclass(frozen=True)
class Lean:
    """A value that ranks higher, or lower. word: how the user put it."""

    column: str
    value: str
    less: bool = False
    word: str = ""


@dataclass(frozen=True)
class Allow:
    """A value that is no longer kept out or ranked lower, and not asked for either."""

    column: str
    value: str


@dataclass(frozen=True)
class Drop:
    """A value that is no longer asked for or ranked higher, and not kept out either."""

    column: str
    value: str


@dataclass(frozen=True)
class ForgetColumn:
    """All that was said of a column."""

    column: str


@dataclass(frozen=True)
class ForgetTitles:
    """All that was said of titles with these words."""

    words: str


@dataclass(frozen=True)
class SetWhere:
    """These conditions, instead of all that there were."""

    where: tuple[Condition, ...]


@dataclass(frozen=True)
class Surprise:
    """Whether the list should be unlike the usual one."""

    wanted: bool


@dataclass(frozen=True)
class Count:
    """Titles of a list."""

    number: int


Edit = (
    Mark | Without | Require | Exclude | Bounds | Compare | Lean | Allow | Drop | ForgetColumn | ForgetTitles | SetWhere
    | Surprise | Count
)  # fmt: skip


@dataclass(frozen=True)
class Wishes:
    """What one message asks for. number: of the title to explain, counted from 1, None where it is not said; question: its words.

    unread: the words of the message that said nothing to whoever read it, in order; "" where all of it was understood.
    """

    edits: tuple[Edit, ...] = ()
    action: Action = "recommend"
    number: int | None = None
    question: str = ""
    unread: str = ""

    @property
    def item_ids(self) -> list[str]:
        """The items that its titles stand for, as far as they were looked up."""
        mentions = [getattr(edit, name) for edit in self.edits for name in ("mention", "than") if hasattr(edit, name)]
        return [item_id for mention in mentions if mention is not None for item_id in mention.item_ids]
