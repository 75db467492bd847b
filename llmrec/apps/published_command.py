"""`llmrec data published`: the data folder of a published set, with the splits that its numbers are reported on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.output import print_json


def published(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="microlens50k, collm_ml1m, tallrec_movie, or amazon14_ with beauty, toys, sports, beauty_ts or toys_ts.",
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder with your copy of its files.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Data folder to write. An older one is replaced; what was added stays if it fits."),
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Lose what was added to an older data folder there and does not fit any more."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make the data folder of a published set with its published splits, from your own copy; nothing is downloaded.

    \b
    Example:
      llmrec data published microlens50k copies/microlens50k --out data/microlens
      llmrec eval --baseline popularity --task recbench/published_clicks --data data/microlens
    """
    from llmrec.data.given_splits import given_split_names
    from llmrec.data.published.sets import publish

    data = publish(name, source, out, force=force)
    splits = given_split_names(out)
    if as_json:
        print_json({"folder": str(out), **data.card, "splits": splits})
        return
    counts = data.card["counts"]
    typer.echo(f"{counts['users']:,} users, {counts['items']:,} items, {counts['events']:,} events")
    typer.echo(f"Wrote {out} (content {data.card['content_hash']}; splits: {', '.join(splits) or 'none'}).")
