"""`llmrec tokenize`: semantic IDs of a data folder's items, and how good they are."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

METHODS = ("rq-kmeans",)


def tokenize(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA", help="A prepared data folder.")],
    method: Annotated[str, typer.Option(help=f"How codes are found: {', '.join(METHODS)}.")] = "rq-kmeans",
    levels: Annotated[int, typer.Option(help="Codes per item.", min=1, max=26)] = 3,
    codebook_size: Annotated[
        int | None, typer.Option(help="Codes per level; by default what suits the number of items, 256 at most.", min=2)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the clustering.")] = 0,
    encoder: Annotated[
        str, typer.Option(help="Encoder of the item texts: a name, a folder, or a name on the hub.")
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
    # Loaded here so that --help needs neither torch nor faiss.
    from dataclasses import replace

    from llmrec.config import check_seed
    from llmrec.data.folder import load_data
    from llmrec.encoders.item_features import TEXT, TextSource, item_features
    from llmrec.errors import ConfigError
    from llmrec.files import check_name, content_hash
    from llmrec.items.codebooks import Scaling
    from llmrec.items.rq_kmeans import tokenize_features

    if method not in METHODS:
        raise ConfigError(f"there is no method '{method}' to find codes; there is: {', '.join(METHODS)}.")
    check_seed(seed)
    name = name or method
    check_name(name, "the name of semantic IDs", ConfigError)
    sources = feature or [TEXT]
    if field and TEXT not in sources:
        raise ConfigError(
            "--field chooses what is encoded as text, but the text is not among the features. Leave it out."
        )
    data = load_data(data_dir)
    if TEXT in sources:
        field = field or [each for each in data.catalog.fields if each != "image"]
    features = item_features(sources, data, text=TextSource(encoder=encoder, fields=field))
    matrices, present = [features[source] for source in sources], [features.present[source] for source in sources]
    scaling = Scaling.none(matrices[0].shape[1]) if len(matrices) == 1 else Scaling.fit(matrices, present)
    semantic_ids, report = tokenize_features(
        scaling.apply(matrices, present), levels=levels, codebook_size=codebook_size, seed=seed, scaling=scaling
    )
    folder = data_dir / "semantic_ids" / name
    card = {
        "method": method,
        "features": sources,
        "encoder": encoder if TEXT in sources else None,
        "fields": field,
        "seed": seed,
        "catalog_hash": data.catalog.content_hash,
        "codes_hash": content_hash(semantic_ids.codes),
        "report": report.as_dict(),
    }
    replace(semantic_ids, card=card).save(folder)
    if json:
        typer.echo(json_text.dumps({"folder": str(folder), **card}, ensure_ascii=False))
    else:
        _print_report(report, folder)


def _print_report(report, folder: Path) -> None:
    """The report as two tables: one line a level, then the catalogue's totals."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    levels = Table(
        title=f"{report.num_items:,} items as {len(report.codebook_sizes)} codes",
        caption="entropy in bits; neighbours: how often the 10 nearest items begin with the same codes, compared with chance",
    )
    for heading in ("level", "codes", "used", "entropy", "perplexity", "neighbours", "chance"):
        levels.add_column(heading, justify="right")
    for level, size in enumerate(report.codebook_sizes):
        last = level == len(report.codebook_sizes) - 1
        levels.add_row(
            "abcdefghijklmnopqrstuvwxyz"[level],
            f"{size}",
            f"{report.utilisation[level]:.1%}",
            f"{report.entropy_bits[level]:.2f}",
            f"{report.perplexity[level]:.1f}",
            "" if last else f"{report.neighbour_agreement[level]:.1%}",
            "" if last else f"{report.chance_agreement[level]:.2%}",
        )
    console.print(levels)
    console.print(
        f"Collisions before re-assignment: {report.colliding_items:,} items shared a row "
        f"({report.colliding_items / report.num_items:.1%}); {report.moved_items:,} were moved to the nearest free code, "
        f"{report.moved_prefixes:,} of them to another prefix. None are left.\n"
        f"Variance the codes leave unexplained: {report.unexplained:.1%} ({report.unexplained_nearest:.1%} before).\n"
        f"Written to {folder}",
        highlight=False,
        soft_wrap=True,
    )
