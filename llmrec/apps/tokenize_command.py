"""`llmrec tokenize`: semantic IDs of a data folder's items, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.output import print_json
from llmrec.apps.semantic_ids import METHODS, print_quality, write_semantic_ids


def tokenize(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA", help="A prepared data folder.")],
    method: Annotated[str, typer.Option(help=f"How codes are found: {', '.join(METHODS)}.")] = "rq-kmeans",
    levels: Annotated[int, typer.Option(help="Codes per item.", min=1, max=26)] = 3,
    codebook_size: Annotated[
        int | None, typer.Option(help="Codes per level; by default what suits the number of items, 256 at most.", min=2)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the clustering.")] = 0,
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder of the item texts: a name, a folder, a name on the hub, or tf_idf, which needs no model."
        ),
    ] = "all-MiniLM-L6-v2",
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="What the codes are made from: 'text' (encoded titles and fields), 'image' (encoded images), or features of "
            "the data folder by name. Repeat it to set several side by side. By default the text."
        ),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="Column of the items to encode; repeatable. By default all.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the semantic IDs; by default the method's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Give every item a unique sequence of codes, and print collisions, utilisation, entropy and neighbour agreement.

    Writes DATA/semantic_ids/NAME, with the codebooks by which `llmrec add-items` gives new items codes later.

    Example: llmrec tokenize data/ml-100k --method rq-kmeans
    """
    folder, card, report = write_semantic_ids(
        data_dir, method=method, levels=levels, codebook_size=codebook_size, seed=seed, encoder=encoder,
        features=feature or (), fields=field, name=name,
    )  # fmt: skip
    if json:
        print_json({"folder": str(folder), **card})
    else:
        print_quality(report, folder)
