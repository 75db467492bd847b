"""Texts that are data, made harmless for a terminal."""

import re
import unicodedata
import warnings
from pathlib import Path

_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_OURS = Path(__file__).parent
_format_others = warnings.formatwarning


def printable(text: str) -> str:
    """The text on one line without what steers a terminal: escape sequences, control characters, turned directions.

    Titles come from other people's catalogues: one must not colour, erase or reorder what stands around it.
    """
    text = _ESCAPES.sub("", text)
    kept = (" " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or not _steers(c))
    return " ".join("".join(kept).split())


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _DIRECTIONS


def say_warnings_in_sentences() -> None:
    """Has this process print warnings of llmrec's own as one line, for who reads a terminal; others as Python does."""
    warnings.formatwarning = _formatted


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if category is UserWarning and _OURS in Path(filename).parents:
        return f"warning: {printable(str(message))}\n"
    return _format_others(message, category, filename, lineno, line)
