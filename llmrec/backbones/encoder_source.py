"""Where a frozen encoder lies, and what tells it from every other: what the cache of its vectors goes by."""

from __future__ import annotations

from pathlib import Path

from llmrec.backbones.load import ModelSource, resolve
from llmrec.errors import ModelError
from llmrec.files import content_hash


def encoder_source(name: str, kind: str, instead: str) -> ModelSource:
    """A folder, a wheel's language model, or a name on the hub. kind, instead: for the sentence of the ModelError raised where
    there is none: what was looked for, and what else can be named."""
    try:
        return resolve(name)
    except ModelError as error:
        raise ModelError(f"'{name}' was not found as {kind}: {error} Another choice is {instead}.") from error


def source_identity(source: ModelSource, *files: str) -> str:
    """The contents of a folder's configuration and weights (a path may come to hold another model), else name and revision.

    files: names of more files in a folder that count, where they are there.
    """
    folder = Path(source.path)
    if not folder.is_dir():
        return f"{source.name} {source.revision}"
    weights = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    parts = [(folder / "config.json").read_text(encoding="utf-8")]
    for path in weights:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size // 2 - 500_000, 0))
            parts.append(content_hash(str(path.stat().st_size), file.read(1_000_000)))
    parts += [(folder / name).read_text(encoding="utf-8") for name in files if (folder / name).is_file()]
    return content_hash(*parts)
