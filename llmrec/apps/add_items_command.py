"""`llmrec add-items`: new items for a finished run, without training it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, Run
from llmrec.apps.output import print_json

if TYPE_CHECKING:
    import numpy as np


def add_items(
    run: Run,
    items: Annotated[
        Path,
        typer.Argument(metavar="ITEMS", help="The new items, in any format that `llmrec data prepare --items` takes."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run with the new items; by default the run itself is replaced.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy",
            help="Vectors of the new items, one row per item, where the run knows items by matrices of your own; repeatable.",
        ),
    ] = None,
    title_column: Annotated[str | None, typer.Option(help="Column of the items to use as title.")] = None,
    catalog_id_column: Annotated[str | None, typer.Option(help="Column of the items with the item's id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a run recommend items it was not trained on: each gets a free code near its features. Old codes stay.

    Runs of the text form only need the titles. Runs of soft tokens, and of the recipe sequential, know the new items by their texts,
    and by their images where the column `image` names files next to ITEMS. Runs with one token per item, or with trained embeddings
    alone, refuse: a new one has learned nothing.
    To evaluate the run afterwards, prepare data whose items are the old ones followed by the new ones, in this order.

    \b
    Example:
      llmrec add-items runs/mine new_items.csv
      llmrec recommend runs/mine --history ITEM_ID --candidates NEW_ITEM_ID
    """
    from llmrec.artifacts.new_items import add_items as add
    from llmrec.data.catalog import Catalog
    from llmrec.data.readers import read_items

    chosen = {"title": title_column, "catalog_id": catalog_id_column}
    new = Catalog(read_items(items, {name: column for name, column in chosen.items() if column}))
    added = add(run, new, features=_read_features(features or []), images=items.parent, out=out)
    for columns, what in (
        (added.missing_columns, "The new items lack what the old ones have"),
        (added.unused_columns, "Left out, because the run's catalogue has no such column or keeps no images"),
    ):
        if columns:
            typer.echo(f"{what}: {', '.join(columns)}.", err=True)
    for name, number in added.without.items():
        if more := number - added.num_unknown:
            typer.echo(
                f"{more} of {added.num_new} new items have no '{name}' that the run could read; they are known by the rest.",
                err=True,
            )
    if added.num_unknown:
        typer.echo(
            f"{added.num_unknown} of {added.num_new} new items share no word with the items before, and have nothing else by which the "
            "run knows items: they stand last in every list.",
            err=True,
        )
    if added.codes is not None and added.softmax_scope != "trie":
        typer.echo(
            f"This run has the softmax scope '{added.softmax_scope}', under which codes that were never an answer rarely reach a list. "
            "Runs trained with loss.softmax_scope=trie find new items ten times as often (docs/benchmarks.md).",
            err=True,
        )
    if as_json:
        codes = None if added.codes is None else added.codes.tolist()
        print_json(
            {
                "folder": str(added.folder), "added": added.num_new, "num_items": added.num_items, "codes": codes,
                "missing_columns": added.missing_columns, "unused_columns": added.unused_columns,
                "without": added.without, "num_unknown": added.num_unknown,
            }
        )  # fmt: skip
        return
    typer.echo(f"Added {added.num_new:,} items: {added.folder} now knows {added.num_items:,}. Nothing was trained.")


def _read_features(named: list[str]) -> dict[str, np.ndarray]:
    """NAME=FILE.npy, several -> name -> the numbers in the file."""
    from llmrec.data.feature_files import read_npy
    from llmrec.errors import DataError

    found = {}
    for text in named:
        name, _, file = text.partition("=")
        if not name or not file:
            raise DataError(f"--features is written NAME=FILE.npy, but it came as '{text}'.")
        found[name] = read_npy(Path(file))
    return found
