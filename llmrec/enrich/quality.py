"""Whether a text is worth keeping: empty, a refusal, going in circles, cut off, or copied.

Rules of thumb that need no second model; each is counted, and what fails one is asked again and then flagged, never dropped in silence.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from typing import Literal

from llmrec.text_models.protocol import VALUES, Chat, Completion, without_marks
from llmrec.text_models.reasoning import spoken

Status = Literal["ok", "trimmed", "empty", "refusal", "looping", "cut_off", "echo", "duplicate", "too_long", "failed"]
GOOD = ("ok", "trimmed")
ECHO_WORDS, ECHO_SHARE = 6, 0.5  # runs of so many words of the prompt, making up more than this share of the text
LOOP_CHARACTERS, LOOP_RATIO = 200, 2.8  # zlib: English prose of 300 characters shrinks by 1.5 to 2

_REFUSAL = re.compile(
    r"\b(i['’]?m sorry|i am sorry|i apologi[sz]e|as an ai\b|as a (large )?language model|i (can['’]?t|cannot|can not|am unable to|"
    r"won['’]?t) (help|assist|provide|answer|describe|discuss|comply|write|fulfil|generate|create)|"
    r"i do(n['’]?t| not) have (any )?(information|knowledge|access))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s|$)|[。！？][”’」』]*")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e|No|Vol|[A-Z])\.$")
_WORD = re.compile(
    r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+"
)  # Chinese and Japanese have no spaces: each character counts as a word


def judge(chat: Chat, completion: Completion, *, opens_before: bool = False) -> tuple[str, Status]:
    """The text to keep, without a reasoning model's thoughts, with the answer's given start in front, and what is the matter with it.

    A text that the token limit cut off is trimmed to its last full sentence; where there is none, or where the model was still
    thinking, it is "cut_off". opens_before: see `cut_in_thought`.
    """
    if cut_in_thought(completion, opens_before=opens_before):
        return "", "cut_off"
    text = " ".join(spoken(completion.text).text.split())
    if len(_WORD.findall(text)) < 3:
        return _joined(chat.answer_start, text), "empty"
    status: Status = "ok"
    if completion.finish == "length":
        whole = up_to_last_sentence(text)
        status = "trimmed" if whole else "cut_off"
        text = whole or text
    if _REFUSAL.search(text[:200]):
        status = "refusal"
    elif is_looping(text):
        status = "looping"
    elif is_echo(text, chat):
        status = "echo"
    return _joined(chat.answer_start, text), status


def cut_in_thought(completion: Completion, *, opens_before: bool = False) -> bool:
    """Whether the token limit came before the first word of the answer: more tokens would bring one.

    opens_before: whether the model's thoughts begin in the prompt, so that an answer without a mark of their end is thoughts alone.
    """
    if completion.finish != "length":
        return False
    found = spoken(completion.text)  # some servers keep thoughts apart: what came is then empty
    return found.is_thinking or not found.text.strip() or (opens_before and found.text == completion.text)


def said(text: str, chat: Chat) -> str:
    """What is compared between items: the text without its given start (which holds the title), words in lower case."""
    return " ".join(_WORD.findall(text.removeprefix(chat.answer_start).lower()))


def up_to_last_sentence(text: str) -> str:
    """The text up to and with its last full sentence; "" where none is full."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[: match.end()])]
    return text[: ends[-1]] if ends else ""


def is_looping(text: str) -> bool:
    """A word or a group of up to 8 that comes three times in a row, a sentence that comes three times, or text that packs too well."""
    words = _WORD.findall(text.lower())
    for width in range(1, 9):
        run = 0
        for place in range(width, len(words)):
            run = run + 1 if words[place] == words[place - width] else 0
            if run >= 2 * width:
                return True
    sentences = [part.strip().lower() for part in re.split(r"[.!?\n]", text) if part.strip()]
    if max(Counter(sentences).values(), default=0) >= 3:
        return True
    packed = text.encode("utf-8", "replace")
    return len(text) >= LOOP_CHARACTERS and len(packed) / len(zlib.compress(packed, 9)) > LOOP_RATIO


def is_echo(text: str, chat: Chat) -> bool:
    """Whether over half of the text's words stand in runs of ECHO_WORDS that the prompt has too: its examples, its instructions, its
    list of titles. What stands within one value (a long title, a description) may be said again.
    """
    words = _WORD.findall(text.lower())
    known: set[tuple[str, ...]] = set()
    for _, marked in chat.turns:
        known |= _runs(without_marks(marked))
        known -= {run for value in VALUES.findall(marked) for run in _runs(value)}
    copied = [False] * len(words)
    for place in range(len(words) - ECHO_WORDS + 1):
        if tuple(words[place : place + ECHO_WORDS]) in known:
            copied[place : place + ECHO_WORDS] = [True] * ECHO_WORDS
    return sum(copied) > ECHO_SHARE * len(words)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[place : place + ECHO_WORDS]) for place in range(len(words) - ECHO_WORDS + 1)}


def _joined(start: str, text: str) -> str:
    return f"{start}{'' if not start or text[:1] in ',.;:!?' else ' '}{text}".strip()
