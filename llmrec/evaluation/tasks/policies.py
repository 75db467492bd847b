"""How a task divides data into what may be learned from and what is asked: one class a policy, named in the task's `split`.

A policy that needs no more than its name may be written so: `split: temporal` is `split: {policy: temporal}`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from llmrec.config import Seed, Settings
from llmrec.data import recbench, splits
from llmrec.data.click_examples import ClickSplit, click_examples
from llmrec.data.click_files import given_click_split
from llmrec.data.folder import Data
from llmrec.data.given_splits import given_user_split
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split


def _folder_with(name: str) -> str:
    return f"a data folder with the split '{name}', such as `llmrec data published` makes"


# -- the next item ----------------------------------------------------------------------------------------------------------------
class LeaveOneOut(Settings):
    """Each user's last event; see `llmrec.data.splits.leave_one_out`."""

    policy: Literal["leave_one_out"] = "leave_one_out"
    needs: ClassVar[str] = "any data; users with fewer than three events are not asked"

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.leave_one_out(interactions)


class Temporal(Settings):
    """One global cut in time; see `llmrec.data.splits.temporal`."""

    policy: Literal["temporal"]
    needs: ClassVar[str] = "data with times"
    test_quantile: float = Field(0.9, gt=0, lt=1)
    valid_quantile: float = Field(0.8, gt=0, lt=1)

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions. Raises DataError without times."""
        return splits.temporal(interactions, self.test_quantile, self.valid_quantile)


class ByUser(Settings):
    """Whole users held out; see `llmrec.data.splits.by_user`."""

    policy: Literal["by_user"]
    needs: ClassVar[str] = "any data"
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    seed: Seed = 0

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions."""
        return splits.by_user(interactions, self.valid, self.test, self.seed)


class RecBenchUsers(Settings):
    """RecBench's rule for the next item; see `llmrec.data.recbench.recbench_users`."""

    policy: Literal["recbench_users"]
    test_users: int = Field(5_000, ge=1)
    train_users: int = Field(40_000, ge=2)
    valid: float = Field(0.1, gt=0, lt=1)  # of the train users
    max_events: int = Field(20, ge=2)  # a user's last so many count, the target among them
    seed: Seed = 0

    def make(self, interactions: Interactions) -> Split:
        """The split of these interactions. Raises DataError for too few users."""
        return recbench.recbench_users(interactions, **self.model_dump(exclude={"policy"}))

    @property
    def needs(self) -> str:
        """What data it can divide, in words."""
        return f"more than {self.test_users:,} users with two events or more (split.test_users)"


class GivenUsers(Settings):
    """Users that lie in the data folder as the split `name`; see `llmrec.data.given_splits`."""

    policy: Literal["given_users"]
    name: str
    max_events: int = Field(20, ge=2)  # a user's last so many count, the target among them

    @property
    def needs(self) -> str:
        """What data it can divide, in words."""
        return _folder_with(self.name)

    def read(self, data: Data) -> Split:
        """The split of these data. Raises DataError where their folder has none of this name."""
        return given_user_split(data, self.name, max_events=self.max_events)


# -- clicks -----------------------------------------------------------------------------------------------------------------------
class _Shares(Settings):
    valid: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.1, gt=0, lt=1)
    min_history: int = Field(1, ge=0)
    positive_from: float = 4.0
    negative_below: float = 3.0
    seed: Seed = 0  # of the negatives, for data without ratings

    def make(self, data: Data, *, max_history: int) -> ClickSplit:
        """The click examples of these data."""
        settings = self.model_dump(exclude={"policy"})
        return click_examples(data.interactions, split=self.policy, max_history=max_history, **settings)


class ByTime(_Shares):
    """The latest share of all labelled events is asked; see `llmrec.data.click_examples`."""

    policy: Literal["time"] = "time"
    needs: ClassVar[str] = "data with times"

    @property
    def summary(self) -> str:
        """In words."""
        return f"the latest {self.test:g} of all answers, the {self.valid:g} before them validate"


class LastOfUser(_Shares):
    """The same share of each user's own events; see `llmrec.data.click_examples`."""

    policy: Literal["last"]
    needs: ClassVar[str] = "any data"

    @property
    def summary(self) -> str:
        """In words."""
        return f"the latest {self.test:g} of each user's answers, the {self.valid:g} before them validate"


class RecBench(Settings):
    """RecBench's rule for clicks; see `llmrec.data.recbench.recbench_clicks`."""

    policy: Literal["recbench"]
    test_rows: int = Field(20_000, ge=1)
    train_rows: int = Field(100_000, ge=2)
    valid: float = Field(0.1, gt=0, lt=1)  # of the users learned from
    positive_from: float = 4.0
    negative_below: float = 3.0
    seed: Seed = 0

    def make(self, data: Data, *, max_history: int) -> ClickSplit:
        """The click examples of these data. Raises DataError for data that the rule does not fit."""
        settings = self.model_dump(exclude={"policy"})
        return recbench.recbench_clicks(data.interactions, max_history=max_history, **settings)

    @property
    def needs(self) -> str:
        """What data it can divide, in words."""
        return f"enough users for {self.test_rows:,} rows, and others to learn from (split.test_rows); with ratings, dislikes too"

    @property
    def summary(self) -> str:
        """In words."""
        return (
            f"RecBench's rules: users until {self.test_rows:,} rows are asked, others until {self.train_rows:,} are learned from "
            f"(seed {self.seed})"
        )


class Given(Settings):
    """Tables that lie in the data folder as the split `name`; see `llmrec.data.given_splits`."""

    policy: Literal["given"]
    name: str

    def make(self, data: Data, *, max_history: int) -> ClickSplit:
        """The click examples. Raises DataError where the folder of the data has none of this name."""
        return given_click_split(data, self.name, max_history=max_history)

    @property
    def needs(self) -> str:
        """What data it can divide, in words."""
        return _folder_with(self.name)

    @property
    def summary(self) -> str:
        """In words."""
        return f"the rows that lie in the data folder as '{self.name}'"


def _named(split: Any) -> Any:
    return {"policy": split} if isinstance(split, str) else split


NextItemSplit = Annotated[
    LeaveOneOut | Temporal | ByUser | RecBenchUsers | GivenUsers,
    Field(discriminator="policy"),
    BeforeValidator(_named),
]
ClickPolicy = Annotated[ByTime | LastOfUser | RecBench | Given, Field(discriminator="policy"), BeforeValidator(_named)]
