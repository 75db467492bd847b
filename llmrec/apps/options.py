"""Options that several commands take, and how a run is opened by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmrec.recommender import Recommender

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the model folder in it.")]
History = Annotated[
    list[str] | None, typer.Option("--history", help="An item id; repeat it, oldest first. None: a new user.")
]
Instruction = Annotated[str | None, typer.Option(help="A wish in words, where the run's prompt takes one.")]
Beams = Annotated[
    int | None,
    typer.Option(
        help="Beams of the search; more are slower and closer to exact. Default: 20, and 4 for grounding.", min=1
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default the accelerator where there is one.")
]
Decoding = Annotated[
    str, typer.Option(help="For runs of the text form: trie, or grounding (free text, then the nearest titles).")
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--softmax-scope",
        help="The tokens that the softmax is over: vocabulary (all tokens), level (the item tokens of the level), trie (the "
        "tokens that continue an item). Default: as trained.",
    ),
]
LanguageModelName = Annotated[
    str | None,
    typer.Option(
        "--language-model",
        metavar="NAME",
        help="Who writes: a model folder, a wheel's or hub's name. Default: what the run was trained from, all layers, untuned.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def open_run(
    run: Path, *, num_beams: int | None, device: str | None, decoding: str = "trie", softmax_scope: str | None = None
) -> Recommender:
    """The recommender of a run, on the accelerator where there is one and no device is named."""
    import torch

    from llmrec.recommender import Recommender

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Recommender.from_pretrained(
        run, device=device, num_beams=num_beams, decoding=decoding, softmax_scope=softmax_scope
    )
