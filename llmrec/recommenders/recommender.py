"""The recommender as a program uses it: item ids in, items with titles out.

recommender = llmrec.Recommender.from_pretrained("runs/demo")
for item in recommender.recommend(["50", "181"], k=10):
    print(item.item_id, item.title, item.score)
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from llmrec.backbones.load import hub_reachable
from llmrec.data.catalog import Catalog
from llmrec.data.interactions import Histories
from llmrec.errors import ArtifactError, ConfigError, ModelError, RequestError
from llmrec.files import atomic_folder
from llmrec.recommenders.artifact import MANIFEST, find_model, load_artifact
from llmrec.recommenders.language_model import recommender_of
from llmrec.recommenders.requests import Ranker, Requests

REQUESTS_A_CALL = 256  # a dense ranker holds this many rows of scores over the whole catalogue


@dataclass(frozen=True)
class Recommendation:
    """One recommended item. score: the ranker's own, higher is better (of a language model the log-probability)."""

    item_id: str
    title: str
    score: float


class Recommender:
    """An inner ranker with its catalogue: takes and gives outside item ids, never dense item numbers."""

    def __init__(self, ranker: Ranker, catalog: Catalog, folder: Path | None = None) -> None:
        """folder: the model folder `save_pretrained` copies, for a ranker that was read from one."""
        self.ranker = ranker
        self.catalog = catalog
        self.folder = folder

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, dtype: torch.dtype | None = None, device: str = "cpu", num_beams: int = 20
    ) -> Self:
        """The recommender in a run folder, or in the model folder that `save_pretrained` or `llmrec train` wrote.

        Args:
            dtype: arithmetic of the frozen part; None for the one it was trained in.
            device: "cpu", "cuda", "cuda:1", ...
            num_beams: beams of the search where items are several tokens; more are slower and closer to exact.

        Raises:
            ArtifactError: the folder is no artifact, is of a newer format, or is damaged.
            ConfigError: there is no such device, or num_beams is below 1.
        """
        if num_beams < 1:
            raise ConfigError(f"num_beams should be 1 or more, but it is {num_beams}.")
        model_folder = find_model(folder)
        model = load_artifact(model_folder, dtype=dtype, device=_checked_device(device))
        return cls(recommender_of(model, num_beams=num_beams), model.catalog, model_folder)

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[str] | None = None,
        instruction: str | None = None,
    ) -> list[Recommendation]:
        """The best k items for one user, best first; fewer only where fewer may be recommended.

        Args:
            history: item ids, oldest first; none for a new user. Of a longer one than the model reads, the latest count.
            exclude_seen: whether items of the history are kept out of the answer.
            candidates: item ids to choose from; None for the whole catalogue.
            instruction: a wish in words, for models trained with a prompt that has a place for one.

        Raises:
            RequestError: an id is not in the catalogue (the nearest are named), k is below 1, there are no candidates.
        """
        instructions = None if instruction is None else [instruction]
        return self.recommend_batch(
            [history], k, exclude_seen=exclude_seen, candidates=candidates, instructions=instructions
        )[0]

    def recommend_batch(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[str] | None = None,
        instructions: Sequence[str] | None = None,
    ) -> list[list[Recommendation]]:
        """The same as `recommend` for many users at once; candidates are the same for all, instructions one a user."""
        if k < 1:
            raise RequestError(f"k counts the items to recommend and should be 1 or more, but it is {k}.")
        chosen = None if candidates is None else np.unique(self._candidates(candidates))
        k = min(k, self.catalog.num_items if chosen is None else len(chosen))
        requests = self._requests(histories, instructions)
        found = []
        for start in range(0, len(requests), REQUESTS_A_CALL):
            rows = np.arange(start, min(start + REQUESTS_A_CALL, len(requests)))
            ranking = self.ranker.rank(requests.take(rows), k, exclude_seen=exclude_seen, candidates=chosen)
            found += [self._named(*row) for row in zip(ranking.items, ranking.scores, strict=True)]
        return found

    def score(
        self, history: Sequence[str], candidates: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """One score for each candidate id, in their order, whether in the history or not; see `recommend` for the rest."""
        requests = self._requests([history], None if instruction is None else [instruction])
        return [float(score) for score in self.ranker.score(requests, self._candidates(candidates))[0]]

    def save_pretrained(self, folder: str | Path) -> None:
        """Copies the model folder to `folder`, whole or not at all; an older artifact there is replaced.

        Raises:
            ArtifactError: this recommender was not read from a folder, or `folder` holds something else.
            LlmrecError: `folder` cannot be written.
        """
        folder, source = Path(folder), self._source()
        if folder.exists() and folder.samefile(source):
            return
        if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise ArtifactError(f"'{folder}' exists and holds no artifact, so it is left as it is. Name a new folder.")
        with atomic_folder(folder) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Uploads the model folder as the Hugging Face model "owner/name" (made if missing); returns its address.

        Titles and texts of the whole catalogue are part of it, hence `private`. Raises ModelError when the hub cannot be
        reached or refuses (no token, no right to write there).
        """
        from huggingface_hub import HfApi, errors  # only here: nothing else needs the hub

        source = self._source()
        if not hub_reachable():
            raise ModelError(
                f"the Hugging Face hub cannot be reached from here, so '{repo_id}' was not uploaded. "
                f"Try again with a connection, or copy '{source}' yourself."
            )
        try:
            api = HfApi()
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=source)
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"the hub did not take '{repo_id}': {first} `hf auth login` sets a token.") from error
        return str(address)

    def _source(self) -> Path:
        if self.folder is None:
            raise ArtifactError("this recommender was made in memory, so there is no model folder to copy.")
        return self.folder

    def _requests(self, histories: Sequence[Sequence[str]], instructions: Sequence[str] | None) -> Requests:
        rows = [self._items(history, "a history") for history in histories]
        return Requests(Histories.from_lists(rows), instructions=None if instructions is None else list(instructions))

    def _candidates(self, item_ids: Sequence[str]) -> np.ndarray:
        """int32 (C,), C at least 1."""
        items = self._items(item_ids, "the candidates")
        if not len(items):
            raise RequestError("the list of candidates is empty. Leave it out to choose from the whole catalogue.")
        return items

    def _items(self, item_ids: Sequence[str], what: str) -> np.ndarray:
        """Dense items of outside ids: int32 (len(item_ids),)."""
        for item_id in () if isinstance(item_ids, str) else item_ids:
            if not isinstance(item_id, str):
                raise RequestError(
                    f"{what} should be a list of item ids, which are texts, but it holds {item_id!r}, "
                    f"a {type(item_id).__name__}. Write '{item_id}' if that is the id."
                )
        return self.catalog.index(item_ids)

    def _named(self, items: np.ndarray, scores: np.ndarray) -> list[Recommendation]:
        """One row of a ranking, padding left out: items int32 (k,), scores float (k,)."""
        catalog = self.catalog
        return [
            Recommendation(catalog.item_id(item), catalog.title(item) or catalog.item_id(item), float(score))
            for item, score in zip(items.tolist(), scores, strict=True)
            if item >= 0
        ]


def _checked_device(name: str) -> str:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"the device '{name}' cannot be used here ({first}). 'cpu' always can.") from error
    return str(device)
