"""The words that the reader knows, from the YAML files beside it: patterns of words, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmrec.yaml_text import read_yaml

NUMBER = "NUMBER"  # in a pattern: any number, in digits or written out
T = TypeVar("T")


@dataclass(eq=False)
class _Node(Generic[T]):
    """A place within a pattern. skips: places that are reached without a word; entry: what a pattern that ends here stands for."""

    children: dict[str, list[_Node[T]]] = field(default_factory=dict)
    skips: list[_Node[T]] = field(default_factory=list)
    entry: tuple[int, T] | None = None
    reached: list[_Node[T]] | None = None


class Phrases(Generic[T]):
    """Patterns of words, "(a|b c) d?", each with an entry: a group is one of its alternatives, ? may be left out."""

    def __init__(self) -> None:
        self._starts: dict[str, list[_Node[T]]] = {}
        self._number = 0
        self.words: set[str] = set()

    def add(self, pattern: str, entry: T) -> None:
        """Of patterns that match the same words the one added first counts."""
        tokens = pattern.replace("(", " ( ").replace(")", " ) ").replace("|", " | ").replace("?", " ? ").split()
        self.words.update(token for token in tokens if token not in ("(", ")", "|", "?"))
        start: _Node[T] = _Node()
        end, rest = self._grown(start, tokens, 0)
        assert rest == len(tokens), pattern
        end.entry = (self._number, entry)
        self._number += 1
        for word in {word for node in _reached(start) for word in node.children}:
            self._starts.setdefault(word, []).append(start)

    def override(self, pattern: str, entry: T) -> None:
        """Adds a pattern that counts before those added until now."""
        number, self._number = self._number, -1 - self._number
        self.add(pattern, entry)
        self._number = number + 1

    def longest(self, words: Sequence[str], start: int, is_number: Callable[[str], bool]) -> tuple[int, T] | None:
        """The longest pattern that matches from `start` on: how many words, and its entry."""
        best: tuple[int, int, T] | None = None
        nodes = self._starts.get(words[start], [])
        if is_number(words[start]):
            nodes = [*nodes, *self._starts.get(NUMBER, [])]
        for place in range(start, len(words)):
            alike = (words[place], NUMBER) if is_number(words[place]) else (words[place],)
            nodes = list({
                id(child): child for node in nodes for one in _reached(node) for word in alike for child in one.children.get(word, ())
            }.values())  # fmt: skip
            ends = [one.entry for node in nodes for one in _reached(node) if one.entry is not None]
            if ends:
                number, entry = min(ends, key=lambda end: end[0])
                best = (place + 1 - start, number, entry)
            if not nodes:
                break
        return None if best is None else (best[0], best[2])

    def _grown(self, start: _Node[T], tokens: list[str], place: int) -> tuple[_Node[T], int]:
        """The end of what is written from `place` on, up to a closing bracket or the end, and where that is."""
        end: _Node[T] = _Node()
        now = start
        while place < len(tokens) and tokens[place] != ")":
            if tokens[place] == "|":
                now.skips.append(end)
                now, place = start, place + 1
                continue
            after: _Node[T] = _Node()
            if tokens[place] == "(":
                inner, place = self._grown(_entered(now), tokens, place + 1)
                inner.skips.append(after)
            else:
                now.children.setdefault(tokens[place], []).append(after)
            place += 1
            if place < len(tokens) and tokens[place] == "?":
                now.skips.append(after)
                place += 1
            now = after
        now.skips.append(end)
        return end, place


def _entered(node: _Node[T]) -> _Node[T]:
    """A node of its own for a group, so that its alternatives start from one place."""
    inner: _Node[T] = _Node()
    node.skips.append(inner)
    return inner


def _reached(node: _Node[T]) -> list[_Node[T]]:
    """The node and all that are reached from it without a word. Kept: the pattern must be whole."""
    if node.reached is None:
        found, seen = [node], {id(node)}
        for one in found:
            for after in one.skips:
                if id(after) not in seen:
                    seen.add(id(after))
                    found.append(after)
        node.reached = [one for one in found if one.children or one.entry is not None]
    return node.reached


@cache
def vocabulary(name: str) -> Any:
    """What one of the YAML files beside this module says: "cues", "fillers", "lists", "meanings", "numbers", "roles" or "spelled"."""
    return read_yaml(Path(__file__).parent / f"{name}.yaml", f"the reader's words '{name}'")


def word_list(name: str) -> frozenset[str]:
    """One of the lists of words in lists.yaml."""
    return frozenset(vocabulary("lists")[name])


def plural(word: str) -> str:
    """comedy -> comedies, lamp -> lamps, watch -> watches."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


_WITHOUT_DEGREES = ("s", "ing", "ed", "ful", "al", "ic", "ous", "er", "ive", "ish", "ent", "ant")


def degrees(adjective: str) -> list[str]:
    """funny -> funny, funnier, funniest; sad -> sadder, saddest; of several words only the word itself."""
    if " " in adjective or not 3 <= len(adjective) <= 9 or adjective.endswith(_WITHOUT_DEGREES):
        return [adjective]
    if adjective.endswith("y"):
        stem = f"{adjective[:-1]}i"
    elif adjective.endswith("e"):
        stem = adjective[:-1]
    elif (
        len(adjective) <= 4
        and adjective[-1] not in "aeiouwxy"
        and adjective[-2] in "aeiou"
        and adjective[-3] not in "aeiou"
    ):
        stem = adjective + adjective[-1]
    else:
        stem = adjective
    return [adjective, f"{stem}er", f"{stem}est"]
