"""`llmrec data check` and `llmrec data prepare`: a user's own files to a data folder, what is wrong in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.grouped import grouped
from llmrec.apps.options import AsJson
from llmrec.terminal import printable

data_app = typer.Typer(
    help="Look through and prepare your own interactions and items.", no_args_is_help=True, rich_markup_mode=None
)

Items = Annotated[
    Path,
    typer.Option(
        "--items",
        help="Items: csv, tsv, parquet, jsonl (each also .gz), RecBole .item, MovieLens .zip, a folder saved by "
        "Dataset.save_to_disk, or a dataset of the hub: hf:owner/name?config=NAME&split=NAME.",
    ),
]
Events = Annotated[
    Path, typer.Option("--interactions", help="Who met what and when: the same formats, or RecBole .inter.")
]


@dataclass(frozen=True)
class Columns:
    """Which columns are meant, where their names do not say it."""

    title_column: Annotated[str | None, typer.Option(help="Column of the items to use as title.")] = None
    catalog_id_column: Annotated[str | None, typer.Option(help="Column of the items with the item's id.")] = None
    user_column: Annotated[str | None, typer.Option(help="Column of the interactions with the user's id.")] = None
    item_column: Annotated[str | None, typer.Option(help="Column of the interactions with the item's id.")] = None
    time_column: Annotated[str | None, typer.Option(help="Column of the interactions with the time.")] = None
    rating_column: Annotated[str | None, typer.Option(help="Column of the interactions with the rating.")] = None

    @property
    def chosen(self) -> dict[str, str]:
        """Those that are named, by what they are to llmrec."""
        named = {
            "title": self.title_column,
            "catalog_id": self.catalog_id_column,
            "user_id": self.user_column,
            "item_id": self.item_column,
            "timestamp": self.time_column,
            "rating": self.rating_column,
        }
        return {canonical: column for canonical, column in named.items() if column}


@data_app.command("check")
@grouped
def check_command(
    items: Items,
    interactions: Events,
    *,
    columns: Columns,
    as_json: AsJson = False,
) -> None:
    """Say what is in items and interactions and what is wrong with them; nothing is written. Exit status 2 where there are problems.

    Example: llmrec data check --items items.csv --interactions ratings.csv
    """
    from llmrec.data.check import check  # pyarrow and numpy only once they are needed: --help stays quick

    report = check(items, interactions, columns=columns.chosen)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        for name, count in report["counts"].items():
            typer.echo(f"{name.replace('_', ' '):28}{count:>14,}")
        for kind in ("problems", "warnings"):
            for entry in report[kind]:
                typer.echo(f"{kind[:-1]}: {entry['message']}")
        typer.echo("Ready to prepare." if report["ok"] else "Not ready: mend the problems first.")
    if not report["ok"]:
        raise typer.Exit(2)


@data_app.command("prepare")
@grouped
def prepare_command(
    items: Items,
    interactions: Events,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder to write. An older data folder there is replaced; what was added stays if it fits.",
        ),
    ],
    ties: Annotated[
        str, typer.Option(help="Events of one user at one time: 'file' order, or 'shuffle' by the seed.")
    ] = "file",
    seed: Annotated[int, typer.Option(help="Seed of the shuffle.")] = 0,
    rating_threshold: Annotated[float | None, typer.Option(help="Keep only events rated this or more.")] = None,
    min_user_events: Annotated[int, typer.Option(help="Keep only users with this many events or more.", min=0)] = 0,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Leave out events of unknown items instead of stopping.")
    ] = False,
    drop_doubles: Annotated[
        bool, typer.Option("--drop-doubles", help="Leave out events that repeat one of the same user, item and time.")
    ] = False,
    unescape: Annotated[
        bool, typer.Option("--unescape", help="Take the markup of web pages out of titles and texts: &amp; and <b>.")
    ] = False,
    *,
    columns: Columns,
    image_root: Annotated[
        Path | None, typer.Option(help="Where the files named in the column 'image' lie; by default next to the items.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; by default that of the folder.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Lose what was added to an older data folder there and does not fit any more."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data folder out of items and interactions. Nothing is left where it fails.

    Example: llmrec data prepare --items items.csv --interactions ratings.csv --out data/mine --rating-threshold 4
    """
    from llmrec.config import check_seed
    from llmrec.data.added_parts import added_parts
    from llmrec.data.prepare import prepare

    check_seed(seed)
    if not as_json:
        typer.echo(f"Reading {items} and {interactions} ...", err=True)
    data = prepare(
        items,
        interactions,
        out,
        ties=ties,
        seed=seed,
        rating_threshold=rating_threshold,
        min_user_events=min_user_events,
        drop_unknown=drop_unknown,
        drop_doubles=drop_doubles,
        unescape=unescape,
        image_root=image_root,
        name=name,
        force=force,
        columns=columns.chosen,
    )
    kept = [str(part) for part in added_parts(out)]
    if as_json:
        typer.echo(json.dumps({"folder": str(out), **data.card, "kept": kept}, ensure_ascii=False))
        return
    for what, count in data.card["counts"].items():
        if isinstance(count, int):
            typer.echo(f"{what.replace('_', ' '):28}{count:>14,}")
        else:
            for reason, number in count.items():
                typer.echo(f"{'dropped by ' + reason.replace('_', ' '):28}{number:>14,}")
    _print_order(data.card)
    if wordless := data.catalog.no_words:
        columns = ", ".join(f"{printable(name)} ({what})" for name, what in wordless.items())
        typer.echo(f"Columns without words, which stay out of item texts unless they are named: {columns}.")
    if kept:
        typer.echo(f"Kept, because they fit these data: {', '.join(kept)}.")
    typer.echo(f"Wrote {out} (content {data.card['content_hash']}).")


def _print_order(card: dict) -> None:
    """What the events were ordered by, and what else could have been meant."""
    from llmrec.data.events import other_times_sentence

    column, others = card["order_column"], card["other_time_columns"]
    kind = "times" if card["order"] == "timestamp" else "steps, an order without a clock"
    typer.echo(
        "Ordered as the rows of the file, which has neither times nor steps."
        if column is None
        else f"Ordered by the column '{printable(column)}' ({kind})."
    )
    if card["time_decimals"]:
        typer.echo(f"Times have decimals and are kept as whole numbers of 1e-{card['time_decimals']}.")
    if others:
        typer.echo(f"warning: {printable(other_times_sentence(column, others))}.", err=True)
