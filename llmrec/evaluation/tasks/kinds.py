"""What a task file can say, by its kind: the next item among all items, among sampled candidates, or clicks."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llmrec.config import Seed, Settings
from llmrec.data.click_examples import ClickSplit, sampled_rows
from llmrec.data.folder import Data
from llmrec.data.splits import Split, limited
from llmrec.evaluation.slices import Slice
from llmrec.evaluation.tasks.policies import ByTime, ClickPolicy, GivenUsers, LeaveOneOut, NextItemSplit


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


class _NextItem(Settings):
    """max_train_users: the events of at most so many users are learned from, sampled by `train_seed`; slices: see
    `llmrec.evaluation.slices`, besides those that every evaluation has."""

    name: str
    version: int
    split: NextItemSplit = LeaveOneOut()
    fit: Literal["train", "train+valid"] = "train"
    max_train_users: int | None = Field(None, ge=1)
    train_seed: Seed = 0
    slices: tuple[Slice, ...] = ()
    ks: Cutoffs
    interval: Interval = Interval()

    def make(self, data: Data) -> Split:
        """What is learned from and what is asked. Raises DataError for data that the split does not fit."""
        split = self.split.read(data) if isinstance(self.split, GivenUsers) else self.split.make(data.interactions)
        return split if self.max_train_users is None else limited(split, self.max_train_users, self.train_seed)

    @property
    def learned_from(self) -> str:
        """In words."""
        users = "" if self.max_train_users is None else f" of {self.max_train_users:,} users"
        return f"split {self.split.policy}, training events {self.fit}{users}"


class RankingTask(_NextItem):
    """The next item, ranked among the whole catalogue. Two results may stand in one column only if their tasks are equal."""

    kind: Literal["ranking"] = "ranking"
    candidates: Literal["all"] = "all"
    exclude_seen: bool = True
    metrics: tuple[RankingMetric, ...] = Field(min_length=1)

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        seen = "seen items filtered" if self.exclude_seen else "no filtering of seen items"
        return f"{self.learned_from}, candidates {self.candidates}, {seen}"

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return f"{', '.join(self.metrics)} at {', '.join(map(str, self.ks))}"


class CandidatesTask(_NextItem):
    """The next item among a few sampled ones: easier than a catalogue, and another sample is another list.

    num_candidates: the target, and the rest sampled by `seed` from the items that are neither it nor in the user's history; negatives:
    "uniform", or "popularity", where an item comes with a probability like its share of the training events; shuffle: the candidates
    stand in an order of chance (by `seed`), not the target first, for models that read them one after another.
    """

    kind: Literal["candidates"]
    num_candidates: int = Field(20, ge=2)
    negatives: Literal["uniform", "popularity"] = "uniform"
    shuffle: bool = False
    seed: Seed = 0
    metrics: tuple[AccuracyMetric, ...] = Field(min_length=1)

    @property
    def candidates(self) -> str:
        """What is ranked, in words."""
        by = ", by popularity" if self.negatives == "popularity" else ""
        order = ", in an order of chance" if self.shuffle else ""
        return (
            f"sampled: the target and {self.num_candidates - 1} items sampled from those the user has not had{by}{order} "
            f"(seed {self.seed})"
        )

    @property
    def exclude_seen(self) -> bool:
        """Never: no seen item is sampled, and a target that repeats one stays a candidate."""
        return False

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        return (
            f"{self.learned_from}, {self.num_candidates} sampled candidates ({self.negatives}), the target among them"
        )

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return f"{', '.join(self.metrics)} at {', '.join(map(str, self.ks))}"


class ClicksTask(Settings):
    """Does this user like this item? Rows with both answers; see `llmrec.data.click_examples`.

    max_train_examples, max_test_examples: at most so many rows are learned from, and asked, sampled by `seed`; None: all.
    """

    kind: Literal["clicks"]
    name: str
    version: int
    split: ClickPolicy = ByTime()
    max_history: int = Field(20, ge=1)  # liked items
    max_train_examples: int | None = Field(None, ge=2)
    max_test_examples: int | None = Field(None, ge=2)
    seed: Seed = 0
    slices: tuple[Slice, ...] = ()
    metrics: tuple[ClickMetric, ...] = Field(("auc", "gauc", "logloss"), min_length=1)
    interval: Interval = Interval()

    def make(self, data: Data) -> ClickSplit:
        """The click examples of these data. Raises DataError for data that the split does not fit."""
        split = self.split.make(data, max_history=self.max_history)
        for part, most in (("train", self.max_train_examples), ("test", self.max_test_examples)):
            if most is not None:
                rows = sampled_rows(getattr(split, part), most, self.seed)
                card = split.card | {f"{part}_rows": {"most": most, "sampled": len(rows), "seed": self.seed}}
                split = replace(split, **{part: rows}, card=card)
        return split

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        limits = ((self.max_train_examples, "learned from"), (self.max_test_examples, "asked"))
        return ", ".join(
            [
                "likes and dislikes",
                self.split.summary,
                *(f"{most:,} rows {what}" for most, what in limits if most is not None),
            ]
        )

    @property
    def counted(self) -> str:
        """Its metrics in words."""
        return ", ".join(self.metrics)


NextItemTask = RankingTask | CandidatesTask
Task = RankingTask | CandidatesTask | ClicksTask
KINDS: dict[str, type[RankingTask | CandidatesTask | ClicksTask]] = {
    "ranking": RankingTask, "candidates": CandidatesTask, "clicks": ClicksTask,
}  # fmt: skip
