"""The texts of alignment tasks: columns of the catalogue, and what `llmrec enrich` wrote about items and users."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.enrich.generated_texts import load_generated_texts
from llmrec.errors import ConfigError, DataError
from llmrec.prompting.alignment import AlignmentTexts, describe_items


def alignment_texts(
    data: Data,
    split: Split,
    *,
    description: Sequence[str] = (),
    generated_texts: str | None = None,
    queries: str | None = None,
    preferences: str | None = None,
) -> AlignmentTexts:
    """Titles, and what else is named.

    description: columns that describe an item. generated_texts (instead of columns) and queries: names of texts about items in
    DATA/generated_texts. preferences: the same about users. Raises ConfigError for descriptions from two sources and for a
    column that is not there, DataError for texts that are not there, belong to other data, or were written from events that `split`
    holds out.
    """
    if description and generated_texts:
        raise ConfigError(
            f"alignment.description names columns ({', '.join(description)}) and alignment.generated_texts texts "
            f"('{generated_texts}'), but an item has one description. Keep one of the two."
        )
    descriptions = describe_items(data.catalog, description) if description else None
    if generated_texts:
        descriptions = load_generated_texts(data, generated_texts).texts
    return AlignmentTexts(
        data.catalog.titles,
        descriptions,
        load_generated_texts(data, queries).texts if queries else None,
        _preferences(data, split, preferences) if preferences else None,
    )


def _preferences(data: Data, split: Split, name: str) -> list[str | None]:
    """Summaries of users' tastes. They are `llmrec enrich`'s from the events of leave-one-out, of which `split` may hold some out."""
    found = load_generated_texts(data, name, about="users")
    fit = found.card["settings"]["fit"]
    if split.name != "leave_one_out" or fit != "train":
        raise DataError(
            f"the texts about users in '{name}' were written from the {fit} events of leave_one_out, but this run trains on the train "
            f"events of {split.name}: they would tell what it is to be asked. Write them with fit=train and validate by leave_one_out."
        )
    return found.texts
