"""The published sets that `llmrec data published` makes data folders of, out of a user's own copy; nothing is downloaded.

The sizes tell a copy of a set from anything else, so that a number is never published for the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmrec.data.added_parts import keep_added
from llmrec.data.folder import Data, load_data
from llmrec.data.given_splits import given_split_names
from llmrec.data.prepare import check_replaceable, prepare
from llmrec.data.published import collm, microlens, tallrec
from llmrec.errors import ConfigError, DataError
from llmrec.files import atomic_folder

_AMAZON = "Amazon review data (McAuley et al.): research, cite the authors; not for redistribution"
_MOVIELENS = "MovieLens: research use, no redistribution"
_MICROLENS = "MicroLens: research only, no redistribution of modified copies"


def _amazon(source: Path, out: Path, name: str, terms: str) -> None:
    title = "keywords" if name == "amazon14_sports" else None  # its titles were not published
    prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", out, name=name, terms=terms, title_column=title)


@dataclass(frozen=True)
class PublishedSet:
    """make(SOURCE, folder, name, terms) writes a data folder; counts: users, items and events that it has then."""

    make: Callable[[Path, Path, str, str], None]
    terms: str
    counts: tuple[int, int, int]
    about: str


SETS = {
    "microlens50k": PublishedSet(
        microlens.make, _MICROLENS, (49_887, 19_217, 359_048), "short videos; click rows and users by RecBench's rules"
    ),
    "collm_ml1m": PublishedSet(collm.make, _MOVIELENS, (839, 3_255, 18_191), "CoLLM's click rows of MovieLens-1M"),
    "tallrec_movie": PublishedSet(
        tallrec.make,
        _MOVIELENS,
        (30, 771, 267),
        "TALLRec's films, liked and disliked; its training rows are not published",
    ),
    "amazon14_beauty": PublishedSet(_amazon, _AMAZON, (22_363, 12_101, 198_502), "5-core, published order"),
    "amazon14_toys": PublishedSet(_amazon, _AMAZON, (19_412, 11_924, 167_597), "5-core, published order"),
    "amazon14_sports": PublishedSet(_amazon, _AMAZON, (35_598, 18_357, 296_337), "5-core, published order"),
    "amazon14_beauty_ts": PublishedSet(_amazon, _AMAZON, (22_332, 12_086, 198_215), "5-core, with times"),
    "amazon14_toys_ts": PublishedSet(_amazon, _AMAZON, (19_124, 11_758, 165_247), "5-core, with times"),
}


def publish(name: str, source: str | Path, out: str | Path, *, force: bool = False) -> Data:
    """Makes the data folder `out` of a published set from the files in `source`, with its splits; returns what it holds.

    What was added to an older data folder `out` is kept where it fits, as by `prepare`. Nothing is left behind where it fails.

    Raises:
        ConfigError: no set of this name.
        DataError: files that are missing, damaged, or not this set's, or an `out` that llmrec did not write.
    """
    source, out = Path(source), Path(out)
    if name not in SETS:
        raise ConfigError(f"there is no published set '{name}' (there are: {', '.join(SETS)}).")
    if not source.is_dir():
        raise DataError(f"the source of '{name}' should be the folder of its files, but '{source}' is none.")
    chosen = SETS[name]
    check_replaceable(out)
    with atomic_folder(out) as new:
        chosen.make(source, new, name, chosen.terms)
        data = load_data(new)
        found = (data.interactions.num_users, data.catalog.num_items, data.interactions.num_events)
        if found != chosen.counts:
            words = [
                f"{users:,} users, {items:,} items and {events:,} events"
                for users, items, events in (found, chosen.counts)
            ]
            raise DataError(f"'{source}' is not '{name}': it gives {words[0]}, but that set has {words[1]}.")
        keep_added(out, new, data, force=force, made_here=tuple(given_split_names(new)))
    return load_data(out)
