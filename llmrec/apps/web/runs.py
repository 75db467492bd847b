"""The runs that a page shows: a recommender each, and what all of them share, the catalogue's columns, titles and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmrec.apps.title_cards import STAND_INS
from llmrec.apps.web.pictures import Pictures
from llmrec.artifacts.run_folder import find_model
from llmrec.conversation.facets import Facets
from llmrec.conversation.reader import Reader
from llmrec.conversing import reader_of
from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch
from llmrec.errors import ConfigError, DataError
from llmrec.files import read_json
from llmrec.recommender import Recommender
from llmrec.recommenders.generative import GenerativeRecommender, OneTokenRecommender
from llmrec.yaml_text import read_yaml


@dataclass(frozen=True)
class ShownRun:
    """One run of a page. name: what its column is headed by; search: the index of titles, where another run has the same items."""

    name: str
    recommender: Recommender
    search: TitleSearch | None = None

    @cached_property
    def reader(self) -> Reader:
        """What wishes mean for this run."""
        return (
            self.recommender.reader
            if self.search is None
            else reader_of(self.recommender, self.search, self.recommender.wishes)
        )

    @property
    def gives_probabilities(self) -> bool:
        """Whether scores are log-probabilities of whole answers."""
        return isinstance(self.recommender.ranker, GenerativeRecommender | OneTokenRecommender)


@dataclass(frozen=True)
class Shelf:
    """One or two runs over one catalogue. data: the folder its pictures lie in, None where there is none."""

    runs: tuple[ShownRun, ...]
    data: Path | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where two runs do not have the same items."""
        for other in self.runs[1:]:
            mine, theirs = self.catalog.item_ids, other.recommender.catalog.item_ids
            if set(mine) != set(theirs):
                raise ConfigError(
                    f"two runs side by side need one catalogue, but {self.runs[0].name} has {len(mine):,} items and "
                    f"{other.name} has {len(theirs):,}, of which {len(set(mine) & set(theirs)):,} are the same. Name two runs "
                    "that were trained on the same data."
                )

    @property
    def catalog(self) -> Catalog:
        """The catalogue of the first run."""
        return self.runs[0].recommender.catalog

    @property
    def reader(self) -> Reader:
        """What reads messages over the catalogue; it has the index of titles and the columns."""
        return self.runs[0].reader

    @property
    def search(self) -> TitleSearch:
        """The index of titles."""
        return self.reader.search

    @property
    def facets(self) -> Facets:
        """The columns that a list can be filtered by."""
        return self.reader.facets

    @cached_property
    def pictures(self) -> Pictures:
        """A picture of every item."""
        return Pictures(self.catalog, self.data, self.facets)


def shelf_of(folders: Sequence[Path], recommenders: Sequence[Recommender], data: Path | None) -> Shelf:
    """What a page shows of runs that were opened. data: as named by the user; None for the first run's, if it is there.

    Raises ConfigError for a folder that is none, and for two runs of different catalogues.
    """
    if data is not None and not data.is_dir():
        raise ConfigError(
            f"the data folder '{data}' is no folder. Name the one that the run was trained on, or leave --data out."
        )
    runs: list[ShownRun] = []
    for name, recommender in zip(_names(folders), recommenders, strict=True):
        is_same = bool(runs) and runs[0].recommender.catalog.item_ids == recommender.catalog.item_ids
        runs.append(ShownRun(name, recommender, runs[0].reader.search if is_same else None))
    return Shelf(tuple(runs), data or data_folder(folders[0]))


def data_folder(run: Path) -> Path | None:
    """The data folder that a run's config names, where it is there still and has pictures.

    The title cards that the demo draws in place of posters are none: the page draws finer ones.
    """
    config = find_model(run).parent / "config.yaml"
    named = read_yaml(config, f"the run's '{config}'") if config.is_file() else None
    data = named.get("data") if isinstance(named, dict) else None
    if not isinstance(data, str) or not (card := Path(data) / "data.json").is_file():
        return None
    sources = read_json(card, "the data folder's card", DataError).get("sources", {})
    return None if str(sources.get("items", "")).startswith(STAND_INS) else Path(data)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
