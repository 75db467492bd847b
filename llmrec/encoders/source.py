"""Where a frozen encoder lies."""

from __future__ import annotations

from llmrec.backbones.load import ModelSource, resolve
from llmrec.errors import ModelError


def encoder_source(name: str, kind: str, instead: str) -> ModelSource:
    """A folder, a wheel's language model, or a name on the hub. kind, instead: for the sentence of the ModelError raised where
    there is none: what was looked for, and what else can be named."""
    try:
        return resolve(name)
    except ModelError as error:
        raise ModelError(f"'{name}' was not found as {kind}: {error} Another choice is {instead}.") from error
