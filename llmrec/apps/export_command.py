"""`llmrec export`: a run as a plain checkpoint that needs none of our code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    from llmrec.artifacts.export import export_run
    from llmrec.artifacts.run_folder import load_artifact
    from llmrec.backbones.export import ITEMS
    from llmrec.errors import LlmrecError
    from llmrec.files import sweep

    sweep(out.parent)  # first: what was killed once the folder lay there is refused below
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LlmrecError(f"'{out}' exists and is not empty, so it is left as it is. Name a new folder.")
    model = load_artifact(run, dtype=torch.float32, quantized=False)  # merging in fewer bits would round
    export_run(model, out)
    typer.echo(f"Wrote {out}. Load it with transformers.AutoModelForCausalLM.from_pretrained('{out}').")
    typer.echo(f"{out / ITEMS} says which item each token is.")
