"""What a run's model reads for one user: the prompt with the items' tokens filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec.recommenders.language_model import LanguageModel


def render_prompt(run: Path, history: Sequence[str], instruction: str | None, candidate: str | None) -> dict[str, Any]:
    """text, num_tokens and token_ids of the prompt. candidate: the item that a prompt about one item asks of.

    Raises RequestError for ids that are not in the catalogue, ConfigError for what the prompt does not take.
    """
    from llmrec.artifacts.run_folder import load_artifact
    from llmrec.recommenders.rules import checked_ids

    model = load_artifact(run, to_serve=True)
    items = model.catalog.index(checked_ids(history, "a history"))
    asked = None if candidate is None else int(model.catalog.index(checked_ids([candidate], "the candidate"))[0])
    ids = model.encoder.encode(items, instruction, candidate=asked).tolist()
    return {"text": spelt(model, ids), "num_tokens": len(ids), "token_ids": ids}


def spelt(model: LanguageModel, ids: Sequence[int]) -> str:
    """Token ids as text: words as the tokenizer decodes them, item tokens by their names, vectors as <soft_3>."""
    first, rows, vectors = model.item_tokens.base_vocab_size, model.item_tokens.row_strings, {}
    for name, source in model.backbone.vector_tokens.sources.items():
        start = model.backbone.first_vector_id(name)
        vectors |= {start + number: f"<{name}_{number}>" for number in range(source.num_tokens)}
    text, words = "", []
    for token in [*ids, None]:
        if token is not None and token < first:
            words.append(token)
            continue
        text, words = text + model.backbone.tokenizer.decode(words), []
        if token is not None:
            text += vectors.get(token) or rows[token - first]
    return text
