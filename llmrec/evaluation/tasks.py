"""Evaluation tasks: one YAML file says what is asked of whom, what may be learned from, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from rapidfuzz import process

from llmrec.config import Seed, Settings, load_config
from llmrec.data import splits
from llmrec.data.click_examples import ClickSplit, click_examples
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.resources import resource_path
from llmrec.yaml_text import read_yaml


class LeaveOneOut(Settings):
    """Each user's last event; see `llmrec.data.splits.leave_one_out`."""

    policy: Literal["leave_one_out"] = "leave_one_out"

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.leave_one_out(interactions)


class Temporal(Settings):
    """One global cut in time; see `llmrec.data.splits.temporal`."""

    policy: Literal["temporal"]
    test_quantile: float = Field(0.9, gt=0, lt=1)
    valid_quantile: float = Field(0.8, gt=0, lt=1)

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions. Raises DataError without times."""
        return splits.temporal(interactions, self.test_quantile, self.valid_quantile)


class ByUser(Settings):
    """Whole users held out; see `llmrec.data.splits.by_user`."""

    policy: Literal["by_user"]
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    seed: Seed = 0

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.by_user(interactions, self.valid, self.test, self.seed)


class Interval(Settings):
    """Bootstrap over users."""

    resamples: int = Field(1000, ge=10)
    level: float = Field(0.95, gt=0, lt=1)
    seed: Seed = 0


def _rising(ks: tuple[int, ...]) -> tuple[int, ...]:
    if ks[0] < 1 or list(ks) != sorted(set(ks)):
        raise ValueError(f"should be rising numbers from 1 on, such as [1, 5, 10], but are {list(ks)}")
    return ks


Cutoffs = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_rising)]
AccuracyMetric = Literal["recall", "ndcg", "mrr", "hit", "precision", "f1"]
# Of lists, however right: diversity is that of the catalogue's words (evaluation/item_words.py) or of vectors that the caller gives.
ListMetric = Literal["coverage", "gini", "novelty", "popularity_bias", "diversity"]
RankingMetric = AccuracyMetric | ListMetric
ClickMetric = Literal[
    "auc", "gauc", "logloss", "brier", "ece", "ece_equal_mass", "accuracy", "f1",
    "ndcg@1", "ndcg@5", "mrr", "map", "recall@1", "recall@5",  # of each user's own rows
]  # fmt: skip
NextItemSplit = Annotated[LeaveOneOut | Temporal | ByUser, Field(discriminator="policy")]


class RankingTask(Settings):
    """The next item, ranked among the whole catalogue. Two results may stand in one column only if their tasks are equal."""

    kind: Literal["ranking"] = "ranking"
    name: str
    version: int
    split: NextItemSplit = LeaveOneOut()
    fit: Literal["train", "train+valid"] = "train"
    candidates: Literal["all"] = "all"
    exclude_seen: bool = True
    metrics: tuple[RankingMetric, ...] = Field(min_length=1)
    ks: Cutoffs
    interval: Interval = Interval()

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        seen = "seen items filtered" if self.exclude_seen else "no filtering of seen items"
        return f"split {self.split.policy}, training events {self.fit}, candidates {self.candidates}, {seen}"

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return f"{', '.join(self.metrics)} at {', '.join(map(str, self.ks))}"


class CandidatesTask(Settings):
    """The next item among a few sampled ones: easier than a catalogue, and another sample is another list.

    num_candidates: the target, and the rest sampled by `seed` from the items that are neither it nor in the user's history.
    """

    kind: Literal["candidates"]
    name: str
    version: int
    split: NextItemSplit = LeaveOneOut()
    fit: Literal["train", "train+valid"] = "train"
    num_candidates: int = Field(20, ge=2)
    seed: Seed = 0
    metrics: tuple[AccuracyMetric, ...] = Field(min_length=1)
    ks: Cutoffs
    interval: Interval = Interval()

    @property
    def candidates(self) -> str:
        """What is ranked, in words."""
        return (
            f"the target and {self.num_candidates - 1} items sampled from those the user has not had (seed {self.seed})"
        )

    @property
    def exclude_seen(self) -> bool:
        """Never: no seen item is sampled, and a target that repeats one stays a candidate."""
        return False

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        return f"split {self.split.policy}, training events {self.fit}, {self.num_candidates} candidates, the target among them"

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return f"{', '.join(self.metrics)} at {', '.join(map(str, self.ks))}"


class ClicksTask(Settings):
    """Does this user like this item? Rows with both answers, in time; see `llmrec.data.click_examples`."""

    kind: Literal["clicks"]
    name: str
    version: int
    split: Literal["time", "last"] = "time"
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    max_history: int = Field(20, ge=1)  # liked items
    min_history: int = Field(1, ge=0)
    positive_from: float = 4.0
    negative_below: float = 3.0
    seed: Seed = 0  # of the negatives, for data without ratings
    metrics: tuple[ClickMetric, ...] = Field(("auc", "gauc", "logloss"), min_length=1)
    interval: Interval = Interval()

    def make(self, interactions: Interactions) -> ClickSplit:
        """The click examples of these interactions."""
        return click_examples(
            interactions,
            **self.model_dump(
                include={
                    "split",
                    "valid",
                    "test",
                    "max_history",
                    "min_history",
                    "positive_from",
                    "negative_below",
                    "seed",
                }
            ),
        )

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        return f"likes and dislikes, split by {self.split}, shares valid {self.valid:g} and test {self.test:g}"

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return ", ".join(self.metrics)


NextItemTask = RankingTask | CandidatesTask
Task = RankingTask | CandidatesTask | ClicksTask
KINDS: dict[str, type[RankingTask | CandidatesTask | ClicksTask]] = {
    "ranking": RankingTask, "candidates": CandidatesTask, "clicks": ClicksTask,
}  # fmt: skip


def task_names() -> list[str]:
    """The shipped tasks, by name."""
    return sorted(path.stem for path in resource_path("eval/tasks").glob("*.yaml"))


def load_task(name_or_path: str | Path, overrides: Sequence[str] = ()) -> RankingTask:
    """`load_any_task` where a ranking over the catalogue is wanted. Raises ConfigError for a task of another kind."""
    task = load_any_task(name_or_path, overrides)
    if not isinstance(task, RankingTask):
        raise ConfigError(
            f"a task of the kind 'ranking' is needed here, but '{task.name}' is of the kind '{task.kind}'."
        )
    return task


def load_any_task(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Reads a shipped task by name, or any YAML file by path, with overrides such as "fit=train+valid" on top. `kind` in the file says
    which of KINDS it is; without it, a ranking.

    Raises ConfigError for an unknown name (naming the nearest), an unreadable file, an unknown kind or key, or a wrong value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = resource_path("eval/tasks") / f"{name_or_path}.yaml"
        if not path.is_file():
            names = task_names()
            nearest = process.extractOne(str(name_or_path), names)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise ConfigError(f"there is no task '{name_or_path}' (there are: {', '.join(names)}).{hint}")
    values = read_yaml(path, f"the task in '{path}'") if path.is_file() else None
    kind = values.get("kind", "ranking") if isinstance(values, dict) else "ranking"
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"the kind of a task is one of {', '.join(KINDS)}, but '{path}' says {kind!r}.")
    return load_config(KINDS[kind], path, overrides)
