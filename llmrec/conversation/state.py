"""What a conversation knows: titles liked and not wanted, conditions, titles shown, and the question that is open."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OpenQuestion:
    """A title that was not clear, asked back. offered: items int, in the order they were numbered from 1.

    rest: titles of the same message that were not read yet; unwanted: whether these titles are not wanted; changed: whether the message
    has named an item by now.
    """

    offered: list[int]
    rest: list[str]
    unwanted: bool
    changed: bool


@dataclass
class ChatState:
    """One conversation. liked, unwanted: items int, oldest first; shown: item ids in the order recommended."""

    liked: list[int] = field(default_factory=list)
    unwanted: list[int] = field(default_factory=list)
    where: list[str] = field(default_factory=list)  # what the catalogue must say of a recommended title
    shown: list[str] = field(default_factory=list)  # since `liked`, `unwanted` or `where` last changed
    open: OpenQuestion | None = None

    def like(self, items: list[int]) -> bool:
        """Puts items after what was liked, each once. Whether any is new."""
        new = [item for item in dict.fromkeys(items) if item not in self.liked]
        self.liked += new
        self.unwanted = [item for item in self.unwanted if item not in new]
        self.shown = [] if new else self.shown
        return bool(new)

    def refuse(self, items: list[int]) -> bool:
        """Keeps items out of what is recommended from now on, and of what was liked. Whether any is new."""
        new = [item for item in dict.fromkeys(items) if item not in self.unwanted]
        self.unwanted += new
        self.liked = [item for item in self.liked if item not in new]
        self.shown = [] if new else self.shown
        return bool(new)

    def take_back(self) -> int:
        """Forgets the title that was liked last: its item. There must be one."""
        self.shown = []
        return self.liked.pop()

    def forget(self) -> None:
        """Forgets all titles; conditions stay."""
        self.liked, self.unwanted, self.shown = [], [], []
