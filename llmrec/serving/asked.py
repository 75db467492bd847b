"""What is asked of whom: all that a process, here or on another machine, needs to open the recommender and to answer users."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.reading import reading
from llmrec.data.users import User
from llmrec.errors import ConfigError
from llmrec.recommenders.diversity import MMR, SSD, parse_diversity
from llmrec.recommenders.filters import Filter
from llmrec.recommenders.rules import ItemRules, NothingLeft
from llmrec.yaml_text import parse_yaml

if TYPE_CHECKING:
    from llmrec.recommender import Recommender

# item_ids and scores of a row are as long as each other, best first; of whom nothing can be recommended to, empty.
ANSWERS = pa.schema({"user_id": pa.string(), "item_ids": pa.list_(pa.string()), "scores": pa.list_(pa.float32())})


@dataclass(frozen=True)
class Source:
    """Who answers: a run, or a baseline that learns from all events of a data folder.

    engine_options: settings of vLLM as KEY=VALUE, such as "tensor_parallel_size=2"; the others: see `Recommender.from_pretrained`.
    """

    run: Path | None = None
    device: str | None = None
    num_beams: int | None = None
    decoding: str = "trie"
    softmax_scope: str | None = None
    baseline: str | None = None
    baseline_settings: tuple[str, ...] = ()
    data: Path | None = None
    engine: str = "torch"
    engine_options: tuple[str, ...] = ()

    def catalog(self) -> Catalog:
        """What can be recommended, without the model."""
        if self.run is None:
            return Catalog.load(self.data / "items.parquet")
        from llmrec.artifacts.run_folder import find_model  # brings torch, which no baseline needs

        return Catalog.load(find_model(self.run) / "items.parquet")

    def open(self, *, prompt_cache_mib: int = 256) -> Recommender:
        """The recommender itself: minutes for a large one. Raises what `Recommender.from_pretrained` does, or the baseline.

        prompt_cache_mib: 0 for many users, who come once each: then no score hangs, in its last digits, on who was asked about before,
        and a job that was interrupted, or done by many machines, comes to the same bytes.
        """
        from llmrec.recommender import Recommender

        if self.run is not None:
            return Recommender.from_pretrained(
                self.run,
                device=self.device or (_device() if self.engine == "torch" else None),
                num_beams=self.num_beams,
                engine=self.engine,
                engine_options=dict(map(_option, self.engine_options)) or None,
                decoding=self.decoding,
                softmax_scope=self.softmax_scope,
                prompt_cache_mib=prompt_cache_mib,
            )
        from llmrec.baselines.by_name import make_baseline
        from llmrec.data.folder import load_data

        data = load_data(self.data)
        fitted = make_baseline(self.baseline, self.baseline_settings, data.catalog).fit(data.interactions)
        return Recommender(fitted, data.catalog)

    def identity(self) -> dict[str, object]:
        """What tells this recommender from another by content, whatever the folder is called; JSON values."""
        if self.run is None:
            return {"baseline": self.baseline, "baseline settings": list(self.baseline_settings),
                    "data folder of the baseline": data_digest(self.data)}  # fmt: skip
        from llmrec.artifacts.run_folder import MANIFEST, find_model

        # The manifest holds digests of the weights, the catalogue and the prompt.
        return {"run": file_digest(find_model(self.run) / MANIFEST), "number of beams": self.num_beams, "decoding": self.decoding,
                "softmax scope": self.softmax_scope, "engine": self.engine, "engine options": list(self.engine_options)}  # fmt: skip


def _option(text: str) -> tuple[str, object]:
    """KEY=VALUE, the value as YAML reads it. Raises ConfigError for anything else."""
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise ConfigError(
            f"an engine's option reads KEY=VALUE, such as tensor_parallel_size=2, but it is '{text[:60]}'."
        )
    return key.strip(), parse_yaml(value, f"the engine's option '{key[:60]}'")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Question:
    """What every user is asked for; see `Recommender.recommend_batch`. A user's own candidates, exclusions and instruction add to it.

    diversity: as `parse_diversity` reads it.
    """

    k: int = 10
    exclude_seen: bool = True
    candidates: tuple[str, ...] | None = None
    where: tuple[str, ...] = ()
    in_stock: str | tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    diversity: str | None = None
    instruction: str | None = None

    def identity(self) -> dict[str, object]:
        """Every setting by the name that a person knows, JSON values."""
        return {name.replace("_", " "): list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @property
    def rules(self) -> Filter:
        """What holds for all users."""
        return Filter(list(self.where), self.in_stock, self.exclude, self.candidates)

    @property
    def method(self) -> MMR | SSD | None:
        """How lists are made less alike. Raises ConfigError where `diversity` names no way."""
        return None if self.diversity is None else parse_diversity(self.diversity)

    def check(self, catalog: Catalog) -> None:
        """Raises RequestError for rules that name what the catalogue lacks or leave nothing, ConfigError for no method of diversity."""
        ItemRules(catalog).choice(**vars(self.rules))
        _ = self.method


def answer(recommender: Recommender, users: Sequence[User], question: Question) -> pa.Table:
    """What each user is recommended, a row a user in their order: ANSWERS.

    Whose own rules leave no item receives an empty list.
    """
    common = question.rules
    filters, asked = [], []
    for row, user in enumerate(users):
        own = None
        if user.candidates is not None or user.exclude:
            if user.candidates == []:  # there were some, and the catalogue lacks them all
                continue
            own = Filter(exclude=user.exclude or (), candidates=user.candidates)
            try:
                recommender.rules.choice(**vars(own.within(common)))
            except NothingLeft:
                continue
        asked.append(row)
        filters.append(own)
    instructions = [users[row].instruction or question.instruction for row in asked]
    found = recommender.recommend_batch(
        [users[row].history for row in asked],
        question.k,
        exclude_seen=question.exclude_seen,
        **vars(common),
        filters=filters if any(filters) else None,
        diversity=question.method,
        instructions=instructions if any(instructions) else None,
    )
    lists = dict(zip(asked, found, strict=True))
    return pa.table(
        {
            "user_id": [user.user_id for user in users],
            "item_ids": [[item.item_id for item in lists.get(row, ())] for row in range(len(users))],
            "scores": [[item.score for item in lists.get(row, ())] for row in range(len(users))],
        },
        schema=ANSWERS,
    )


def check_source(source: Source) -> None:
    """Raises ConfigError for an option of the engine that is none, and where a baseline does not exist or has no such setting."""
    dict(map(_option, source.engine_options))
    if source.baseline is not None:
        from llmrec.baselines.by_name import make_baseline

        if source.data is None:
            raise ConfigError("a baseline needs the data to learn from: --data DIR.")
        make_baseline(source.baseline, source.baseline_settings)


def data_digest(folder: Path) -> str:
    """Of the items, events and users of a data folder."""
    return " ".join(file_digest(folder / name) for name in ("items.parquet", "interactions.parquet", "users.parquet"))


def file_digest(path: Path) -> str:
    """16 hexadecimal characters that depend on the bytes of a file. Raises DataError where it cannot be read."""
    with reading(path, "a file"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
