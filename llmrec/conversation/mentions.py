"""Titles that a message names, looked up in the catalogue; the first that is not clear is asked back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrec.conversation.edits import Compare, Edit, Mark, Mention, Wishes
from llmrec.conversation.reader import Reader
from llmrec.conversation.session import OpenQuestion
from llmrec.terminal import printable

CHOICES = 9  # offered at most where a title is not clear
NAME_CHARACTERS = 80  # of what was typed, where it is said again


def looked_up(reader: Reader, wishes: Wishes) -> tuple[Wishes, OpenQuestion | None, list[str]]:
    """The wishes with every title looked up, the question where one is not clear, and the lines to be said.

    With a question, the wishes are looked up to its place only. A title that nothing comes near is said, and its edit left out.
    """
    edits: list[Edit] = list(wishes.edits)
    lines: list[str] = []
    place = 0
    while place < len(edits):
        mention = _mention(edits[place])
        if mention is None or mention.item_ids:
            place += 1
            continue
        match = reader.find(mention.text)
        if match.kind == "sure":
            edits[place] = _naming(edits[place], [reader.catalog.item_id(item) for item in match.items])
        elif not match.items:
            lines.append(f"Nothing here is called '{printable(mention.text)[:NAME_CHARACTERS]}'.")
            del edits[place]
        else:
            offered = match.items[:CHOICES]
            wishes = replace(wishes, edits=tuple(edits))
            question = OpenQuestion(tuple(reader.catalog.item_id(item) for item in offered), wishes, place)
            lines += _asked_back(reader, mention.text, match.kind == "near", offered, len(match.items))
            return wishes, question, lines
    return replace(wishes, edits=tuple(edits)), None, lines


def answered(question: OpenQuestion, message: str) -> Wishes | str | None:
    """The wishes with the question's title chosen, by numbers or by Enter for none; None for a number that was not offered.

    The message itself where it is no answer.
    """
    words = message.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        return message
    if not all(len(word) <= 6 and 1 <= int(word) <= len(question.offered) for word in words):
        return None
    edits = list(question.wishes.edits)
    if words:
        edits[question.place] = _naming(edits[question.place], [question.offered[int(word) - 1] for word in words])
    else:
        del edits[question.place]
    return replace(question.wishes, edits=tuple(edits))


def _asked_back(reader: Reader, typed: str, is_near: bool, offered: Sequence[int], number: int) -> list[str]:
    name = printable(typed)[:NAME_CHARACTERS]
    if is_near:
        lines = [f"Nothing here is called '{name}'. The nearest:"]
    else:
        lines = [f"Did you mean by '{name}':" if len(offered) == 1 else f"Which '{name}' do you mean?"]
    lines += [f"  {place}) {label}" for place, label in enumerate(reader.labels.of(offered), 1)]
    if number > len(offered):
        lines.append(f"  and {number - len(offered)} more: type more of the title to see them")
    return lines


def _mention(edit: Edit) -> Mention | None:
    match edit:
        case Mark(mention=mention):
            return mention
        case Compare(than=than):
            return than
    return None


def _naming(edit: Edit, item_ids: Sequence[str]) -> Edit:
    """The edit with its title looked up."""
    if isinstance(edit, Mark):
        return replace(edit, mention=replace(edit.mention, item_ids=tuple(dict.fromkeys(item_ids))))
    assert isinstance(edit, Compare) and edit.than is not None, edit
    return replace(edit, than=replace(edit.than, item_ids=tuple(item_ids)))
