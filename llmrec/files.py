"""Writing files so that a reader never meets half of one, and reading JSON with errors in words."""

import contextlib
import ctypes
import errno
import fcntl
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
from safetensors import SafetensorError

from llmrec.errors import LlmrecError

_LEFT = re.compile(r"\.(?P<name>.+)\.\d+-[0-9a-f]{8}\.(?P<kind>tmp|old)")
MAX_NAME = 100  # characters; a hidden folder next to it has some more, and file systems end at 255 bytes


def check_name(name: str, what: str, error: type[LlmrecError] = LlmrecError) -> None:
    """Raises `error` where `name` cannot be the name of a file or folder everywhere. `what` says whose name it is."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}", name):
        shown = name if len(name) <= MAX_NAME else f"{name[:20]}...' of {len(name)} characters"
        raise error(
            f"{what} should be letters, digits, '.', '_' and '-', {MAX_NAME} at most and no mark first, but it is '{shown}"
            + ("." if len(name) > MAX_NAME else "'.")
        )


def unfinished(folder: Path) -> list[Path]:
    """What processes are writing into `folder` itself, or were when they died: hidden folders, none of them a result."""
    return [entry for entry in folder.glob(".*") if _LEFT.fullmatch(entry.name)]


def sweep(folder: Path) -> None:
    """Removes what processes that died left unfinished in `folder`, and puts back what they had moved away.

    What a living process is writing stays: it holds a lock on its workplace, which the system takes from it when it dies.
    """
    for left in sorted(unfinished(folder)):  # .old before .tmp, which tells whether its process lives
        with contextlib.suppress(OSError), _locked(left.with_suffix(".tmp"), fcntl.LOCK_EX) as dead:
            if not dead:
                continue
            if left.suffix == ".old":
                _put_back(left)
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def put_back(path: str | Path) -> Path:
    """`path`. Where there is none, because a process died between the two steps of replacing it, the earlier one is put back.

    For readers; only file systems that cannot exchange two folders ever need it.
    """
    path = Path(path)
    if not path.exists():
        put_all_back(path.parent)
    return path


def put_all_back(folder: Path) -> Path:
    """`folder`, with everything in it that `put_back` would find: for readers who list it."""
    for left in unfinished(folder):
        if left.suffix == ".old" and not _target(left).exists():
            with contextlib.suppress(OSError), _locked(left.with_suffix(".tmp"), fcntl.LOCK_EX) as dead:
                if dead:
                    _put_back(left)
    return folder


def _put_back(left: Path) -> None:
    if not _target(left).exists():
        os.replace(left, _target(left))


def _target(left: Path) -> Path:
    """What a hidden folder was going to replace."""
    return left.with_name(_LEFT.fullmatch(left.name)["name"])


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[bool]:
    """Whether this process got the lock, or there is nothing to lock. Where a file system knows no locks, nothing counts as dead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            got = True
        except BlockingIOError:
            got = False
        except OSError:
            got = kind == fcntl.LOCK_SH
        yield got
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """A hidden folder next to `path`, locked for as long as this process lives, gone afterwards; what died there before is swept.

    The same folder means the same file system, so replacing `path` by something in it is one atomic step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    while True:
        place = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        place.mkdir()
        with _locked(place, fcntl.LOCK_SH) as ours:
            if not ours or not place.exists():  # another process swept it between the two lines above
                continue
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
            return


def _cannot_write(path: Path, error: OSError | SafetensorError) -> LlmrecError:
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    reason = "a file lies where a folder should be" if in_the_way else getattr(error, "strerror", None) or str(error)
    return LlmrecError(f"cannot write '{path}': {reason}. Choose a location that you may write to and that has room.")


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
    """Yield a temporary path of the same name; what was written there becomes `path` on success and vanishes on failure.

    Missing parent folders are made. Raises LlmrecError where the file cannot be written.
    """
    path = Path(path)
    try:
        with _workplace(path) as place:
            temporary = place / path.name
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, known_by: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` in one step on success and vanishes on failure.

    Whatever `path` held before is deleted on success. known_by: a file that shows that it is ours to delete; a folder that holds
    something else is refused before anything is written. None: the caller has made sure.
    Raises LlmrecError where the folder cannot be written.
    """
    path = Path(path).absolute()
    try:
        if path.is_symlink():
            path = path.resolve()
        if known_by is not None:
            _check_ours(put_back(path), known_by)
        with _workplace(path) as place:
            new = place / "new"
            new.mkdir()
            yield new
            _replace(path, new)
    except (OSError, SafetensorError) as error:
        raise _cannot_write(path, error) from error


def remove_folder(path: Path) -> None:
    """Deletes a folder that is there, in one step for readers: it is whole until it is gone. LlmrecError where that is not allowed."""
    try:
        with _workplace(path) as place:
            os.replace(path, place / "old")
    except OSError as error:
        raise _cannot_write(path, error) from error


def _check_ours(path: Path, known_by: str) -> None:
    if path.is_dir() and (path / known_by).is_file():
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise LlmrecError(
            f"'{path}' exists and holds something else (there is no {known_by} in it), so it is left as it is. Name a new folder."
        )


def _replace(path: Path, new: Path) -> None:
    """`new` becomes `path`; what was there goes with the workplace that `new` lies in."""
    if not path.exists():
        os.replace(new, path)
    elif not _exchange(new, path):
        # Two steps, and a kill between them leaves no `path`: the earlier folder has a name that `put_back` finds.
        previous = new.parent.with_suffix(".old")
        os.replace(path, previous)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(previous, path)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two paths in one step, by Linux's renameat2; False where system or file system cannot."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(here, os.fsencode(first), here, os.fsencode(second), ctypes.c_uint(exchange)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(second))


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
    except RecursionError as problem:
        raise error(f"the {what} '{path}' is nested too deeply to be one. Write it again.") from problem
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
