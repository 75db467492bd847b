"""Texts that a language model wrote about items or users: DATA/generated_texts/NAME/texts.parquet and card.json.

texts.parquet  item (or user) int32, text string, status string; one row for each that was asked about
card.json      format_version, about, model, prompt and its hash, settings, counts, and the hash of the catalogue (users: of the data)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmrec.data.added_parts import texts_fit
from llmrec.data.folder import GENERATED_TEXTS, Data
from llmrec.data.formats import read_parquet
from llmrec.data.reading import reading
from llmrec.enrich.quality import GOOD
from llmrec.errors import DataError
from llmrec.files import atomic_folder, check_name, put_all_back, put_back, read_json, write_arrow, write_json

FORMAT_VERSION = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneratedTexts:
    """`texts`: one per dense item (or user), None where there is none or it was flagged; `all_texts`: flagged ones too;
    `statuses`: what became of each, None where nobody asked.
    """

    texts: list[str | None]
    all_texts: list[str | None]
    statuses: list[str | None]
    card: dict

    @classmethod
    def of(
        cls, num_rows: int, found: dict[int, tuple[str, str]], card: dict, *, keep_flagged: bool = False
    ) -> GeneratedTexts:
        """From (text, status) by dense number. keep_flagged: flagged texts are texts, too."""
        pairs = [found.get(row) for row in range(num_rows)]
        kept = [pair is not None and bool(pair[0]) and (keep_flagged or pair[1] in GOOD) for pair in pairs]
        return cls(
            [pair[0] if keep else None for pair, keep in zip(pairs, kept, strict=True)],
            [pair[0] if pair else None for pair in pairs],
            [pair[1] if pair else None for pair in pairs],
            card,
        )

    def save(self, folder: str | Path) -> None:
        """Writes texts.parquet and card.json, both or neither; what an earlier run wrote there is replaced."""
        asked = [row for row, status in enumerate(self.statuses) if status is not None]
        table = pa.table({
            "user" if self.card["about"] == "users" else "item": pa.array(asked, pa.int32()),
            "text": pa.array([self.all_texts[row] or "" for row in asked], pa.string()),
            "status": pa.array([self.statuses[row] for row in asked], pa.string()),
        })  # fmt: skip
        with atomic_folder(folder, known_by="card.json") as temporary:
            write_arrow(temporary / "texts.parquet", table)
            write_json(temporary / "card.json", {"format_version": FORMAT_VERSION} | self.card)


def generated_texts_folder(data_folder: Path, name: str) -> Path:
    """Where the texts called `name` lie. DataError for a name that is no folder name."""
    check_name(name, "the name of generated texts", DataError)
    return Path(data_folder) / GENERATED_TEXTS / name


def load_generated_texts(data: Data, name: str | None, *, about: str = "items") -> GeneratedTexts:
    """Reads DATA/generated_texts/NAME; without a name, the only one about items there is (about="users": about users).

    Texts about items belong to a catalogue, texts about users to all the data they were written from. A catalogue that has grown,
    items after the old ones, keeps the texts of the old ones; the new ones have none, which is a warning.
    Raises DataError where there is none, several without a name, or it does not belong to these data.
    """
    assert data.folder is not None, "generated texts lie in a data folder"
    if name is None:
        name = _only_name(data.folder, about)
    folder = generated_texts_folder(data.folder, name)
    card = read_json(put_back(folder) / "card.json", "card of the generated texts", DataError)
    if card.get("format_version") != FORMAT_VERSION or card.get("about") != about:
        raise DataError(
            f"expected generated texts about {about} of format {FORMAT_VERSION} in '{folder}', but they are about {card.get('about')} "
            f"of format {card.get('format_version')}. Name another, or run `llmrec enrich` again."
        )
    _check_belongs(folder, card, data)
    texts_file = folder / "texts.parquet"
    # LookupError, TypeError, ValueError: columns or notes of the card that are not there, or are something else
    broken, advice = (LookupError, TypeError, ValueError), "Run `llmrec enrich` again."
    with reading(texts_file, "the texts that `llmrec enrich` wrote", *broken, advice=advice):
        table = read_parquet(texts_file)
        rows = table[about.removesuffix("s")].to_numpy()
        texts, statuses = table["text"].to_pylist(), table["status"].to_pylist()
        num_rows, keep_flagged = int(card["num_rows"]), bool(card["settings"]["keep_flagged"])
    if len(rows) and (rows.min() < 0 or rows.max() >= num_rows):
        raise DataError(
            f"the texts in '{folder}' name {about} beyond the {num_rows} there are. Run `llmrec enrich` again."
        )
    found = {int(row): (text, status) for row, text, status in zip(np.asarray(rows), texts, statuses, strict=True)}
    num_rows = data.catalog.num_items if about == "items" else data.interactions.num_users
    return GeneratedTexts.of(num_rows, found, card, keep_flagged=keep_flagged)


def _check_belongs(folder: Path, card: dict, data: Data) -> None:
    """Refuses what was written about other items, or about users from other events."""
    fit = texts_fit(card, data)
    if fit == "first":
        logger.warning(
            "the generated texts in '%s' are about the first %d of %d items; the others came later and have no text. Run the same "
            "`llmrec enrich` again: it asks about those alone.", folder, card["num_rows"], data.catalog.num_items,
        )  # fmt: skip
    if fit != "none":
        return
    if card["about"] == "users":
        made_for, here, what = card.get("content_hash"), data.content_hash(), "other data"
    else:
        made_for, here, what = card.get("catalog_hash"), data.catalog.content_hash, "another catalogue"
    raise DataError(
        f"the generated texts in '{folder}' were written for {what} (content {made_for}, that of '{data.folder}' is {here}). "
        "Run the same `llmrec enrich` again: it asks only what it has not been asked."
    )


def _only_name(data_folder: Path, about: str) -> str:
    cards = sorted(put_all_back(data_folder / GENERATED_TEXTS).glob("[!.]*/card.json"))
    names = [path.parent.name for path in cards if read_json(path, error=DataError).get("about") == about]
    if not names and (data_folder / "knowledge").is_dir():
        raise DataError(
            f"'{data_folder}/knowledge' is called generated_texts now: mv {data_folder}/knowledge {data_folder}/generated_texts"
        )
    if not names:
        raise DataError(
            f"'{data_folder}' has no generated texts about {about}. Make some with: llmrec enrich {data_folder} --model MODEL"
            + (" --about users" if about == "users" else "")
        )
    if len(names) > 1:
        raise DataError(
            f"'{data_folder}' has several sets of generated texts about {about}: {', '.join(names)}. Name one."
        )
    return names[0]
