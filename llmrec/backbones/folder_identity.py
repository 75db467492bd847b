"""What tells a model in a folder from every other: all bytes that transformers reads of it."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from llmrec.errors import LlmrecError, ModelError
from llmrec.files import cache_dir, content_hash, read_json, write_json

# What transformers reads of a folder: configurations, tokenizers, preparation of images, weights.
READ_SUFFIXES = frozenset({".bin", ".jinja", ".json", ".model", ".safetensors", ".tiktoken", ".txt"})
# What a training leaves next to them, and nobody reads.
_LEFT_BY_TRAINING = frozenset({"training_args.bin", "optimizer.bin", "scheduler.bin", "trainer_state.json"})
SETTLED_SECONDS = 2.0  # a file changed later than that may change again under the same times


def folder_identity(folder: Path) -> str:
    """A digest of every byte that transformers reads: names and contents of the files, subfolders left out.

    Every byte, because a sample of the weights misses whatever was changed elsewhere: one layer, one bias. That is a third of a second
    for 500 MB, and `_digest` remembers it. Raises ModelError for a file that cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if _is_read(path))
        return content_hash(*(part for path in paths for part in (path.name, _digest(path))))
    except OSError as error:
        raise ModelError(f"cannot read the model in '{folder}': {error}.") from error


def _is_read(path: Path) -> bool:
    return path.suffix in READ_SUFFIXES and path.name not in _LEFT_BY_TRAINING and path.is_file()


def _digest(path: Path) -> str:
    """SHA-256 of a file, remembered under the cache folder for as long as size, times and inode of the file are the same."""
    found = path.stat()
    facts = {"size": found.st_size, "mtime": found.st_mtime_ns, "ctime": found.st_ctime_ns, "inode": found.st_ino}
    memory = cache_dir() / "digests" / f"{content_hash(str(path.resolve()))}.json"
    with suppress(LlmrecError):  # nothing remembered, or half a file: as good as nothing
        remembered = read_json(memory)
        if remembered.get("file") == facts and isinstance(remembered.get("sha256"), str):
            return remembered["sha256"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - max(found.st_mtime, found.st_ctime) > SETTLED_SECONDS:
        with suppress(LlmrecError):  # a cache that cannot be written, as in many containers: read again next time
            write_json(memory, {"file": facts, "sha256": digest})
    return digest
