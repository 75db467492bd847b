"""What a reasoning model says, without what it thought on the way: the one place that knows how models mark their thoughts.

| marks | models |
|---|---|
| `<think>`, `<thinking>`, `<thought>`, `<reasoning>`, `<seed:think>`, `[THINK]` | Qwen3, DeepSeek-R1, Seed-OSS, Magistral |
| `<|channel>thought` ... `<channel|>` | Gemma 4 |
| `<|channel|>analysis<|message|>` ... `<|channel|>final<|message|>` | gpt-oss (harmony) |
| `analysis...assistantfinal` | the same, where a server dropped its special tokens |
| `Here is my thought process:` ... `Here is my response:` | Granite 3 |

Some chat templates write the opening mark into the prompt, so that an answer holds the end alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_NAMES = r"think|thinking|thoughts?|reasoning|seed:think"
_BLOCKS = re.compile(
    rf"<(?P<tag>{_NAMES})>.*?(?:</(?P=tag)>|(?P<open1>\Z))"
    r"|\[THINK\].*?(?:\[/THINK\]|(?P<open2>\Z))"
    r"|<\|channel>thought.*?(?:<channel\|>|(?P<open3>\Z))"
    r"|\A\s*Here(?:'s| is) my thought process:.*?(?:Here(?:'s| is) my response:|(?P<open4>\Z))"
    r"|\A\s*analysis(?=[A-Z\n ]).*?(?:assistantfinal)",
    re.IGNORECASE | re.DOTALL,
)
_END_ALONE = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|<channel\|>", re.IGNORECASE)
_OPENED = re.compile(rf"(?:<(?:{_NAMES})>|\[THINK\]|<\|channel>thought)\s*\Z", re.IGNORECASE)
_HARMONY, _FINAL = "<|channel|>", re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_HARMONY_MARK = re.compile(r"<\|(?:end|return|start|call)\|>")
# special tokens that decoding leaves out, but that tell thoughts from words
MARKS = frozenset({"[THINK]", "[/THINK]", "<|channel>", "<channel|>"}) | {
    f"<{end}{name}>" for end in ("", "/") for name in ("think", "thinking", "thought", "reasoning", "seed:think")
}
HARMONY_MARKS = frozenset({_HARMONY, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"})
_OPENINGS = (
    *(mark for mark in MARKS if "/" not in mark and mark != "<channel|>"),
    *(
        "<|channel>thought",
        _HARMONY,
        "<|return|>",
        "<|end|>",
        "Here is my thought process:",
        "Here's my thought process:",
    ),
)


@dataclass(frozen=True)
class Spoken:
    """An answer without its thoughts. is_thinking: the text ends within them; opened_before: they began in the prompt."""

    text: str
    is_thinking: bool = False
    opened_before: bool = False


def spoken(text: str) -> Spoken:
    """What an answer says after, before and between its thoughts; an answer without any comes back as it is."""
    if _HARMONY in text:
        finals = list(_FINAL.finditer(text))
        if not finals:
            return Spoken("", is_thinking=True)
        return Spoken(_HARMONY_MARK.split(text[finals[-1].end() :])[0])
    is_thinking = False

    def without(block: re.Match[str]) -> str:
        nonlocal is_thinking
        is_thinking |= any(block[name] is not None for name in ("open1", "open2", "open3", "open4"))
        return " "

    said = _BLOCKS.sub(without, text)
    *_, after = _END_ALONE.split(said)
    return Spoken(text if after == text else after.strip(), is_thinking, opened_before=after != said)


def opened_by(prompt: str) -> str:
    """The mark of thoughts that a prompt ends with, which belongs in front of the answer; "" where it ends with none."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""


class SpokenPieces:
    """Hands on what is said of an answer that comes in pieces, its thoughts left out."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self.on_text, self._raw, self._shown = on_text, "", ""

    def add(self, piece: str, *, is_last: bool = False) -> None:
        """The next piece. What might be the beginning of a mark waits for what follows."""
        self._raw += piece
        known = self._raw
        mark = max(known.rfind("<"), known.rfind("["), 0)
        if not is_last and any(opening.lower().startswith(known[mark:].lower().lstrip()) for opening in _OPENINGS):
            known = known[:mark]
        said = spoken(known).text
        if len(said) > len(self._shown) and said.startswith(self._shown):
            self.on_text(said[len(self._shown) :])
            self._shown = said
