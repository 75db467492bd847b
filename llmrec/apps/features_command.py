"""`llmrec features`: what is known about the items as vectors, a matrix of one's own, encoders run now rather than in training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmrec.apps.output import print_json

if TYPE_CHECKING:
    from llmrec.data.folder import Data

ENCODED = ("text", "image")


def features(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA", help="A prepared data folder.")],
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Add a matrix of your own: .npy or .safetensors with a row for each item in order, or a table (parquet, "
            "csv, ...) with a column item_id; items that the table leaves out are absent. Repeatable.",
        ),
    ] = None,
    encode: Annotated[
        list[str] | None, typer.Option(help="Run an encoder now and keep its vectors: text or image. Repeatable.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The encoder for --encode: a name, a folder, a name on the hub, or for texts tf_idf, which needs no model."
        ),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="Column to encode as text; repeatable. By default all.")
    ] = None,
    on_broken: Annotated[
        str, typer.Option(help="Images that cannot be read: 'skip' (their items go without) or 'fail'.")
    ] = "skip",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the features of a data folder's items; add a matrix of your own; encode texts and images ahead of training.

    Encoded vectors are kept in llmrec's cache by content and encoder, a matrix of your own in DATA/features.

    \b
    Examples:
      llmrec features data/mine
      llmrec features data/mine --add colours=colours.npy --add sounds=sounds.parquet
      llmrec features data/mine --encode image --on-broken fail
      llmrec features data/mine --encode text --encoder SmolLM2-135M-Instruct
    """
    from llmrec.data.folder import load_data
    from llmrec.errors import ConfigError

    encode = encode or []
    if unknown := [name for name in encode if name not in ENCODED]:
        raise ConfigError(f"--encode makes {' or '.join(ENCODED)}, but it came as '{unknown[0]}'.")
    if encoder and len(set(encode)) != 1:
        raise ConfigError("--encoder belongs to one --encode: name --encode text or --encode image with it.")
    if field and "text" not in encode:
        raise ConfigError("--field chooses what is encoded as text: name --encode text with it.")
    if on_broken not in ("skip", "fail"):
        raise ConfigError(f"--on-broken is 'skip' or 'fail', but it came as '{on_broken}'.")
    data = load_data(data_dir)
    added = _add(data, data_dir, add or [])
    encoded = [_encode(data, name, encoder, field, on_broken) for name in dict.fromkeys(encode)]
    if as_json:
        print_json(_listed(data) | {"folder": str(data_dir), "added": added, "encoded": encoded})
        return
    for row in added:
        typer.echo(f"{'Replaced' if row['replaced'] else 'Added'} {_sentence(row, data)}, from {row['from']}.")
    for row in encoded:
        typer.echo(f"Encoded {_sentence(row, data)}, by {row['encoder']} in {row['seconds']:.1f} s.")
    if not added and not encoded:
        _print(_listed(data))


def _add(data: Data, folder: Path, named: list[str]) -> list[dict[str, Any]]:
    """NAME=FILE, several: all are read and checked before the first is written."""
    from llmrec.data.feature_files import read_features
    from llmrec.encoders.item_features import COMPUTED
    from llmrec.errors import ConfigError
    from llmrec.files import content_hash, write_json

    read = {}
    for text in named:
        name, _, file = text.partition("=")
        if not name or not file:
            raise ConfigError(f"--add is written NAME=FILE, but it came as '{text}'.")
        if name in COMPUTED or name in read:
            why = f"are {COMPUTED[name]}" if name in COMPUTED else "are added twice"
            raise ConfigError(f"the features '{name}' {why}. Choose another name for '{file}'.")
        read[name] = (Path(file), read_features(name, Path(file), data.catalog))
    rows = []
    for name, (file, found) in read.items():
        card = {"from": file.name, "content_hash": content_hash(found[name], found.present[name])}
        found.save(folder / "features")
        write_json(folder / "features" / f"{name}.json", card)
        rows.append(_row(name, found) | card | {"replaced": name in data.features})
        data.features.add(name, found[name], found.present[name])
    return rows


def _encode(data: Data, name: str, encoder: str | None, fields: list[str] | None, on_broken: str) -> dict[str, Any]:
    from llmrec.encoders.item_features import ImageSource, TextSource, item_features

    named = {} if encoder is None else {"encoder": encoder}
    text = TextSource.model_validate({"fields": fields, **(named if name == "text" else {})})
    image = ImageSource.model_validate({"on_broken": on_broken, **(named if name == "image" else {})})
    start = time.perf_counter()
    found = item_features([name], data, text=text, image=image)
    used = text.encoder if name == "text" else image.encoder
    return _row(name, found) | {"encoder": used, "seconds": round(time.perf_counter() - start, 3)}


def _row(name: str, found: Any) -> dict[str, Any]:
    return {"name": name, "width": found[name].shape[1], "present": int(found.present[name].sum())}


def _listed(data: Data) -> dict[str, Any]:
    """What lies in the folder, and what encoders could make: {"items", "features": [...], "encoders": [...]}."""
    from llmrec.files import read_json

    rows = []
    for name in data.features:
        card = data.folder / "features" / f"{name}.json"
        source = read_json(card, "card of the features")["from"] if card.is_file() else "the data folder"
        rows.append(_row(name, data.features) | {"from": source})
    return {"items": data.catalog.num_items, "features": rows, "encoders": _encoders(data)}


def _encoders(data: Data) -> list[dict[str, Any]]:
    """What the default encoders could make of the items, and of how many the cache holds it (None: encoder not installed)."""
    from llmrec.data.images import image_paths
    from llmrec.encoders.image import DEFAULT_IMAGE_ENCODER, num_encoded
    from llmrec.encoders.text import DEFAULT_ENCODER, are_encoded
    from llmrec.errors import ModelError

    texts = data.catalog.texts()
    with_words = sum(bool(text.strip()) for text in texts)
    rows = [{"name": "text", "encoder": DEFAULT_ENCODER, "items": with_words}]
    if "image" in data.catalog.fields:
        images = image_paths(data.catalog, data.folder)
        rows.append({"name": "image", "encoder": DEFAULT_IMAGE_ENCODER, "items": sum(map(bool, images))})
    for row in rows:
        try:
            row["encoded"] = num_encoded(images) if row["name"] == "image" else with_words * are_encoded(texts)
        except ModelError:
            row["encoded"] = None
    return rows


def _sentence(row: dict[str, Any], data: Data) -> str:
    return f"'{row['name']}': {row['width']:,} numbers for {row['present']:,} of {data.catalog.num_items:,} items"


def _print(listed: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"features of {listed['items']:,} items")
    for heading, justify in (("name", "left"), ("width", "right"), ("items", "right"), ("from", "left")):
        table.add_column(heading, justify=justify)
    for row in listed["features"]:
        table.add_row(row["name"], f"{row['width']:,}", f"{row['present']:,}", row["from"])
    for row in listed["encoders"]:
        done = "not installed" if row["encoded"] is None else f"{row['encoded']:,} encoded"
        table.add_row(row["name"], "", f"{row['items']:,}", f"{row['encoder']} ({done})")
    Console().print(table)
