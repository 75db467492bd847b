"""`llmrec explain`: why an item suits a history, what was measured, and next to it what a language model says."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from llmrec.apps.options import (
    AsJson,
    BaseUrl,
    Decoder,
    Device,
    Instruction,
    OldTextModelName,
    Provider,
    Run,
    TextModelName,
    text_model_settings,
)
from llmrec.apps.output import print_json


def explain(
    run: Run,
    item: Annotated[str, typer.Option("--item", help="The item id to explain.")],
    history: Annotated[list[str], typer.Option("--history", help="An item id; repeat it, oldest first.")],
    model: TextModelName = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    instruction: Instruction = None,
    device: Device = None,
    as_json: AsJson = False,
    old_model: OldTextModelName = None,
) -> None:
    """Explain why an item suits a history: how the score falls without each history item, what they have in common, and words.

    The words are a language model's, with all its layers, however few the recommender uses. Only the table is measured.

    \b
    Example:
      llmrec explain runs/demo --history 50 --history 181 --item 172
      llmrec explain runs/demo --history 50 --item 172 --model my-model --provider openai --base-url http://localhost:8000/v1
    """
    language_model = text_model_settings(model, provider, base_url)
    recommender = Decoder(device=device).open(run)
    found = recommender.explain(history, item, language_model, instruction=instruction)
    if as_json:
        print_json({"run": str(run), "history": history, "item": item, **dataclasses.asdict(found)})
        return
    from llmrec.explain.lines import explanation_lines

    typer.echo("\n".join(explanation_lines(found)))
