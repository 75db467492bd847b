"""What every click model is measured against: how often an item is met, and how much it, and a user, is liked. No torch.

Letters: N rows, I items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from llmrec.config import Settings, load_config
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.errors import ConfigError, DataError

ClickMean = Literal["item_mean", "user_item_mean"]
CLICK_MEANS: tuple[ClickMean, ...] = get_args(ClickMean)


def mean_scores(
    kind: ClickMean,
    train: ClickExamples,
    rows: ClickExamples,
    num_items: int,
    *,
    item_shrink: float = 3.0,
    user_shrink: float = 20.0,
    answers: Literal["earlier", "train"] = "earlier",
) -> np.ndarray:
    """What a model must beat: float64 (N,) in (0, 1).

    item_mean: the share of likes among the item's training examples, shrunk towards the share of all by `item_shrink` more.
    user_item_mean: the log-odds of that, plus by how much those of the user's own share of likes, among what he rated strictly before
    the row (shrunk towards the share of all as by `user_shrink`), lie above those of all. On MovieLens-100K (validation)
    items are best shrunk by 1 to 5; users shrunk by 10 have .003 more AUC and .004 less GAUC than by 20.
    answers: with "train" the user's share is of the training examples instead, and knows no answer of the asked period.
    """
    overall = train.labels.mean()
    counts = np.bincount(train.items, minlength=num_items)
    likes = np.bincount(train.items, weights=train.labels, minlength=num_items)
    of_item = ((likes + item_shrink * overall) / (counts + item_shrink))[rows.items]
    if kind == "item_mean":
        return of_item
    liked, answered = rows.liked, rows.answered
    if answers == "train":
        num_users = 1 + max(train.users.max(initial=-1), rows.users.max(initial=-1))
        answered = np.bincount(train.users, minlength=num_users)[rows.users]
        liked = np.bincount(train.users, weights=train.labels, minlength=num_users)[rows.users]
    of_user = (liked + user_shrink * overall) / (answered + user_shrink)
    return expit(logit(of_item) + logit(of_user) - logit(overall))


class ClickBaseline(ABC):
    """A `ClickScorer` that is made of settings and learns from a split: `make_click_baseline("item_mean").fit(split)`.

    name: what `make_click_baseline` finds it by, and tables show; Settings: the only place of a default.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def card(self) -> dict[str, Any]:
        """All settings."""
        return self.settings.model_dump(mode="json")

    @abstractmethod
    def fit(self, split: ClickSplit) -> Self:
        """Learn from the events or training examples of a split; returns itself."""

    @abstractmethod
    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float64 (N,) in (0, 1)."""


class ClickPopularity(ClickBaseline):
    """The events of the item among the split's, c of at most m, as (c + 1) / (m + 2): an order, and no probability worth a log loss."""

    class Settings(Settings):
        """It has none."""

    name = "popularity"

    def fit(self, split: ClickSplit) -> Self:
        """Count the events, which no row asks about."""
        counts = split.events.counts()
        self.shares = (counts + 1) / (counts.max(initial=0) + 2)  # (I,)
        return self

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """The same for everybody: float64 (N,)."""
        return self.shares[rows.items]


class _Mean(ClickBaseline):
    def fit(self, split: ClickSplit) -> Self:
        """Remember the training examples. Raises DataError where there are none."""
        if not len(split.train):
            raise DataError(f"{self.name} learns from training examples, but the split has none.")
        self.train, self.num_items = split.train, split.events.num_items
        return self

    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """See `mean_scores`: float64 (N,)."""
        return mean_scores(self.name, self.train, rows, self.num_items, **dict(self.settings))


class ItemMean(_Mean):
    """The share of likes of each item; see `mean_scores`."""

    class Settings(Settings):
        """item_shrink: so many examples of the share of all are added to each item's own."""

        item_shrink: float = Field(3.0, gt=0)

    name = "item_mean"


class UserItemMean(_Mean):
    """The same with the user's own share of likes; see `mean_scores`."""

    class Settings(ItemMean.Settings):
        """answers: "earlier", all that the user answered before the row, or "train", the training examples alone."""

        user_shrink: float = Field(20.0, gt=0)
        answers: Literal["earlier", "train"] = "earlier"

    name = "user_item_mean"


CLICK_BASELINES: dict[str, type[ClickBaseline]] = {
    kind.name: kind for kind in (ClickPopularity, ItemMean, UserItemMean)
}


def make_click_baseline(name: str, overrides: Sequence[str] = ()) -> ClickBaseline:
    """A click baseline by its name, with settings such as "item_shrink=2" in place of defaults, not yet fitted.

    Raises ConfigError for a name that there is not, and for a setting that it does not have or that does not fit.
    """
    if name not in CLICK_BASELINES:
        raise ConfigError(f"there is no baseline '{name}' of clicks (there are: {', '.join(CLICK_BASELINES)}).")
    kind = CLICK_BASELINES[name]
    return kind(load_config(kind.Settings, None, overrides))
