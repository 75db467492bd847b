"""Semantic IDs of a data folder's items, as `llmrec tokenize` and the demo make and show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.items.quality import QualityReport

METHODS = ("rq-kmeans",)


def write_semantic_ids(
    data_dir: Path,
    *,
    method: str = "rq-kmeans",
    levels: int = 3,
    codebook_size: int | None = None,
    seed: int = 0,
    encoder: str = "all-MiniLM-L6-v2",
    features: Sequence[str] = (),
    fields: Sequence[str] | None = None,
    name: str | None = None,
) -> tuple[Path, dict, QualityReport]:
    """Writes DATA/semantic_ids/NAME; returns the folder, the card, and how good they are; see `llmrec tokenize`."""
    # Loaded here so that a command's --help needs neither numpy nor torch.
    from llmrec.config import check_seed
    from llmrec.data.folder import load_data
    from llmrec.encoders.item_features import TEXT, TextSource, item_features
    from llmrec.files import check_name, content_hash
    from llmrec.items.codebooks import Scaling
    from llmrec.items.rq_kmeans import tokenize_features

    if method not in METHODS:
        raise ConfigError(f"there is no method '{method}' to find codes; there is: {', '.join(METHODS)}.")
    check_seed(seed)
    name = name or method
    check_name(name, "the name of semantic IDs", ConfigError)
    sources = list(features) or [TEXT]
    if fields and TEXT not in sources:
        raise ConfigError(
            "--field chooses what is encoded as text, but the text is not among the features. Leave it out."
        )
    data = load_data(data_dir)
    if TEXT in sources:
        fields = list(fields or [each for each in data.catalog.fields if each != "image"])
    found = item_features(sources, data, text=TextSource(encoder=encoder, fields=fields))
    matrices, present = [found[source] for source in sources], [found.present[source] for source in sources]
    scaling = Scaling.none(matrices[0].shape[1]) if len(matrices) == 1 else Scaling.fit(matrices, present)
    semantic_ids, report = tokenize_features(
        scaling.apply(matrices, present), levels=levels, codebook_size=codebook_size, seed=seed, scaling=scaling
    )
    folder = data_dir / "semantic_ids" / name
    card = {
        "method": method,
        "features": sources,
        "encoder": encoder if TEXT in sources else None,
        "fields": fields,
        "seed": seed,
        "catalog_hash": data.catalog.content_hash,
        "codes_hash": content_hash(semantic_ids.codes),
        "report": report.as_dict(),
    }
    replace(semantic_ids, card=card).save(folder)
    return folder, card, report


def print_quality(report: QualityReport, folder: Path) -> None:
    """The report as two tables: one line per level, then the catalogue's totals."""
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
