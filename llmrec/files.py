"""Writing files so that a reader never meets half of one, and reading JSON with errors in words."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import LlmrecError


def _temporary(path: Path) -> Path:
    # The same folder means the same file system, so os.replace is one atomic step.
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def unfinished(folder: Path) -> list[Path]:
    """What a process that was killed was writing into `folder` itself: files and folders that nobody will finish."""
    return [path for path in folder.glob(".*.tmp") if re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}\.tmp", path.name)]


def _cannot_write(path: Path, error: OSError) -> LlmrecError:
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    reason = "a file lies where a folder should be" if in_the_way else error.strerror or str(error)
    return LlmrecError(f"cannot write '{path}': {reason}. Choose a place that you may write to and that has room.")


def check_writable(folder: Path) -> None:
    """Raises LlmrecError where `folder` can be neither made nor written into: before hours of work, not after them. Makes nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES)) if there.is_dir() else NotADirectoryError()
    raise _cannot_write(folder, error)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there becomes `path` on success and vanishes on failure.

    Missing parent folders are made. Raises LlmrecError where the file cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that replaces `path` on success and vanishes on failure.

    Whatever `path` held before is deleted on success: the caller first makes sure that it may be.
    Raises LlmrecError where the folder cannot be written.
    """
    path = Path(path).absolute()
    if path.is_symlink():
        path = path.resolve()
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            # Two steps, because no system call swaps non-empty folders portably: a kill between them leaves the old
            # folder whole under its hidden name, never a mixture.
            previous = _temporary(path)
            os.replace(path, previous)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(previous, path)
                raise
            shutil.rmtree(previous, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, all of it or nothing."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: object) -> None:
    """Write a value as indented JSON, all of it or nothing. ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrow(path: str | Path, table: pa.Table) -> None:
    """Write a table as parquet, all of it or nothing."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_json(path: str | Path, what: str = "JSON file", error: type[LlmrecError] = LlmrecError) -> dict:
    """Read a JSON object. `what` names the file in the sentence of the `error` raised when it is missing or broken."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"cannot read the {what} '{path}': {problem.strerror or problem}.") from problem
    except ValueError as problem:  # bad JSON, or bytes that are not UTF-8
        raise error(f"the {what} '{path}' is not valid JSON ({problem}). Write it again.") from problem
    if not isinstance(value, dict):
        raise error(f"the {what} '{path}' should hold a JSON object but holds a {type(value).__name__}.")
    return value


def content_hash(*parts: str | bytes | np.ndarray | Callable[[], Iterable[str]]) -> str:
    """16 hexadecimal characters (BLAKE2b) that depend on every part, its kind, and where one part ends.

    A function as a part gives the pieces of a text that need not be held at once. It is called twice: for the length, then
    for the content.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if callable(part):
            digest.update(f"text {sum(len(_bytes(piece)) for piece in part())}\n".encode())
            for piece in part():
                digest.update(_bytes(piece))
            continue
        if isinstance(part, np.ndarray):
            kind, content = f"array {part.dtype.str} {part.shape}", np.ascontiguousarray(part).data
        elif isinstance(part, str):
            kind, content = "text", _bytes(part)
        else:
            kind, content = "bytes", part
        digest.update(f"{kind} {memoryview(content).nbytes}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cache_dir() -> Path:
    """Where downloads and computed features are kept: $LLMREC_CACHE, else ~/.cache/llmrec. It may not exist yet."""
    return Path(os.environ.get("LLMREC_CACHE") or Path.home() / ".cache" / "llmrec")
