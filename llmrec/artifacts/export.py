"""A run as a plain checkpoint, with the map of its items: what `llmrec export` writes and vLLM serves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from llmrec.backbones.export import export
from llmrec.recommenders.language_model import LanguageModel


def export_run(model: LanguageModel, folder: str | Path, *, card: dict[str, str] | None = None) -> Path:
    """Writes the checkpoint, which `transformers` and vLLM load with no code of ours, and items.parquet (`item_map`) in it.

    model: loaded in float32 and not in 4 bits, `load_artifact(run, dtype=torch.float32, quantized=False)`: merging in fewer bits
    would round. card: see `backbones.export.export`, whose errors these are.
    """
    return export(model.backbone, model.item_tokens.row_strings, folder, items=item_map(model), card=card)


def item_map(model: LanguageModel) -> pa.Table:
    """How each item is answered, one row an item: item_id, title, token (its spelling), token_id.

    token_id: int64 where an item is one token, a list of them where it is several (semantic ids, titles).
    """
    tokens, catalog = model.item_tokens, model.catalog
    ids = [row[:length].tolist() for row, length in zip(tokens.sequences, tokens.lengths, strict=True)]
    titles, first = list(catalog.titles), tokens.base_vocab_size
    spelt = ["".join(tokens.row_strings[token - first] for token in row) for row in ids] if tokens.num_rows else titles
    token_ids = pa.array([row[0] for row in ids]) if tokens.max_length == 1 else pa.array(ids, pa.list_(pa.int64()))
    return pa.table({"item_id": list(catalog.item_ids), "title": titles, "token": spelt, "token_id": token_ids})
