"""The one place where what a library raises on an untrusted file becomes one sentence that names the file.

Every reader of `llmrec.data` calls its library inside `reading`, and nothing of its own that could fail by a mistake of ours.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from llmrec.errors import DataError, LlmrecError

Choose = Callable[[list[str]], dict[str, pa.DataType | None]]
# A row must fit into one block of Arrow's text readers; a title of millions of characters is odd but no error.
BLOCK = 64 << 20
# What files that are missing, cut short, damaged or of another kind make any library raise.
_BROKEN = (OSError, EOFError, MemoryError, RecursionError, UnicodeError, zlib.error, csv.Error, pa.ArrowException)


@contextmanager
def reading(
    source: Path | str,
    expected: str,
    *also: type[Exception],
    advice: str | None = None,
    error: type[LlmrecError] = DataError,
) -> Iterator[None]:
    """Turns what a library raises on a file into an `error` of one sentence.

    source: the file, or words for what is read where no file is known; expected: what it should hold; also: what else this library
    raises on broken input (ValueError for JSON, ...), which elsewhere could be a mistake of our own; advice: what to do about it.
    """
    named = f"'{shortened(str(source), 300)}'" if isinstance(source, Path) else source
    mend = advice or "It may be cut short or damaged; copy or export it again."
    try:
        if isinstance(source, Path) and "\0" in str(source):
            raise error(f"{named} holds a null character, which no file's name can. Check the path.")
        yield
    except FileNotFoundError as problem:
        raise error(f"there is no file {named}. {advice or 'Check the path.'}") from problem
    except IsADirectoryError as problem:
        raise error(f"{named} is a folder, but a file was expected. Name the file inside it.") from problem
    except PermissionError as problem:
        raise error(f"{named} may not be read: permission denied.") from problem
    except UnicodeError as problem:
        raise error(f"{named} is not UTF-8 text ({_reason(problem)}). Save it as UTF-8.") from problem
    except RecursionError as problem:
        raise error(f"{named} is nested too deeply to be read as {expected}. Flatten it.") from problem
    except MemoryError as problem:
        raise error(
            f"{named} could not be read as {expected}: it asks for more memory than there is ({_reason(problem)}). {mend}"
        ) from problem
    except (*_BROKEN, *also) as problem:
        reason = _reason(problem)
        if "UTF8" in reason:
            raise error(f"{named} is not UTF-8 text ({reason}). Save it as UTF-8.") from problem
        raise error(f"{named} could not be read as {expected}: {reason}. {mend}") from problem


def open_file(path: Path) -> BinaryIO:
    """The bytes of a file, without their compression where its name ends in .gz. Call it inside `reading`."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _reason(problem: BaseException) -> str:
    words = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return shortened(words, 300).rstrip(".") or type(problem).__name__


def shortened(text: str, length: int = 60) -> str:
    """The text, cut to `length` characters so that it fits into a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def quoted(text: str, length: int = 60) -> str:
    """An id in quotation marks as it is written, spaces at its ends included; control characters as escapes."""
    text = text if len(text) <= length else text[: length - 3] + "..."
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    ends = [
        where for where, there in (("at the start", text[:1].isspace()), ("at the end", text[-1:].isspace())) if there
    ]
    return f"'{shown}'" + (f" (with a space {' and '.join(ends)})" if ends else "")
