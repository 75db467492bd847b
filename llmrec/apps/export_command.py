"""`llmrec export`: a run as a plain checkpoint that needs none of our code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from llmrec.recommenders.language_model import LanguageModel


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the model folder in it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; new or empty.")],
) -> None:
    """Write the run as one checkpoint that transformers and vLLM load: adapters merged, item tokens in the vocabulary.

    items.parquet next to it says which item a token is: item_id, title, token, token_id.

    \b
    Example:
      llmrec export runs/demo exported/demo
    """
    import torch

    from llmrec.artifacts.run_folder import load_artifact
    from llmrec.backbones.export import ITEMS
    from llmrec.backbones.export import export as write_checkpoint
    from llmrec.errors import LlmrecError
    from llmrec.files import sweep

    sweep(out.parent)  # first: what was killed once the folder lay there is refused below
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LlmrecError(f"'{out}' exists and is not empty, so it is left as it is. Name a new folder.")
    model = load_artifact(run, dtype=torch.float32, quantized=False)  # merging in fewer bits would round
    write_checkpoint(model.backbone, model.item_tokens.row_strings, out, items=item_map(model))
    typer.echo(f"Wrote {out}. Load it with transformers.AutoModelForCausalLM.from_pretrained('{out}').")
    typer.echo(f"{out / ITEMS} says which item each token is.")


def item_map(model: LanguageModel) -> pa.Table:
    """How each item is answered: item_id, title, token (its spelling), token_id.

    token_id: int64 where an item is one token, a list of them where it is several (semantic ids, titles).
    """
    import pyarrow as pa

    tokens, catalog = model.item_tokens, model.catalog
    ids = [row[:length].tolist() for row, length in zip(tokens.sequences, tokens.lengths, strict=True)]
    titles, first = list(catalog.titles), tokens.base_vocab_size
    spelt = ["".join(tokens.row_strings[token - first] for token in row) for row in ids] if tokens.num_rows else titles
    token_ids = pa.array([row[0] for row in ids]) if tokens.max_length == 1 else pa.array(ids, pa.list_(pa.int64()))
    return pa.table({"item_id": list(catalog.item_ids), "title": titles, "token": spelt, "token_id": token_ids})
